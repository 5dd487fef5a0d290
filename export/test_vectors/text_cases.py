"""Text cases: texts, their token ids and the text of these ids, which any implementation of a tokenization must give.

`test_texts.json` holds the name and hash of the artifact, its tokenization and vocabulary, so that an encoder can be
tested without reading ONNX, and three lists of cases:

- `texts`: valid Unicode, each with `text` and `ids`;
- `halves`: the same with halves of surrogate pairs, which the strings of some languages cannot hold;
- `ids`: only `ids`, also those of bytes that are no UTF-8.

`decoded` is the text of the ids where it differs from `text`.
"""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...model.tokenizer.odd_texts import odd_texts
from ...runtime.io.files import write_atomically
from ...runtime.vocabulary import Vocabulary

FORMAT = 1
NAME = "test_texts.json"

_ODD, _HALVES, _IDS, _MARKED = 2000, 100, 300, 50
_COMBINING = (0x300, 0x36F)
_LONG_RUNS = ("x", "\u00e9", "7", "-", " ", "\t", "\n", "\u4e2d", "\U0001f600", "\x00", "don't", "a ")
_RUN_LENGTHS = (31, 32, 33, 64, 65, 100)
_SURROGATES = ("\ud800", "\udbff", "\udc00", "\udfff")
_HALF = re.compile("[\ud800-\udfff]")
_MOST_IDS, _SHORTEST = 12, 256


def text_cases(vocabulary: Vocabulary) -> dict[str, Any]:
    """The tokenization, the vocabulary and all cases as JSON; the same for the same vocabulary."""
    return {
        "format": FORMAT,
        "tokenization": vocabulary.tokenization.to_json(),
        "vocabulary": list(vocabulary.tokens),
        "texts": [_case(vocabulary, text) for text in _texts()],
        "halves": [_case(vocabulary, text) for text in _halves()],
        "ids": [{"ids": ids, "decoded": vocabulary.decode(ids)} for ids in _sequences(vocabulary)],
    }


def write_text_cases(vocabulary: Vocabulary, artifact: str, sha256: str, folder: Path) -> Path:
    """Write the cases of an artifact's vocabulary; returns the file.

    Args:
        vocabulary: The artifact's.
        artifact: The name of its file.
        sha256: The hash in its metadata.
        folder: Where to write.

    Raises:
        StorageError: The file cannot be written.
    """
    content = {"artifact": artifact, "sha256": sha256, **text_cases(vocabulary)}
    compact = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    data = _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", compact).encode()
    write_atomically(folder / NAME, data + b"\n")
    return folder / NAME


def _case(vocabulary: Vocabulary, text: str) -> dict[str, Any]:
    ids = vocabulary.encode(text)
    decoded = vocabulary.decode(ids)
    case = {"text": text, "ids": ids}
    return case if decoded == text else {**case, "decoded": decoded}


def _texts() -> Iterator[str]:
    yield from odd_texts(_ODD)
    for part in _LONG_RUNS:
        for length in _RUN_LENGTHS:
            yield f"a {part * length} b"
    draw = random.Random(4)
    for _ in range(_MARKED):
        letters = draw.choices("aeiouncAEIOU ", k=_MOST_IDS)
        yield "".join(letter + chr(draw.randint(*_COMBINING)) for letter in letters)


def _halves() -> Iterator[str]:
    """Odd texts with halves of surrogate pairs in them; never two that are a pair."""
    draw = random.Random(2)
    for text in odd_texts(_HALVES, seed=2):
        place = draw.randrange(len(text) + 1)
        yield f"{text[:place]}{draw.choice(_SURROGATES)}{text[place:]}\ud83d"


def _sequences(vocabulary: Vocabulary) -> Iterator[list[int]]:
    """Random ids; half of them are short tokens, which for `bpe` are single bytes."""
    draw = random.Random(3)
    shortest = sorted(range(len(vocabulary)), key=lambda token_id: len(vocabulary.token(token_id)))[:_SHORTEST]
    for _ in range(_IDS):
        size = draw.randrange(1, _MOST_IDS + 1)
        yield [draw.choice(shortest) if draw.randrange(2) else draw.randrange(len(vocabulary)) for _ in range(size)]

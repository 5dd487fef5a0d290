"""Odd text: the same tokens by every path, no failure, and a round trip where tokens are characters."""

import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.model import load_corpus_with
from lmtool.runtime import Autocompletion, PoolOptions, Predictor, StreamPool, Tokenization, Vocabulary, VocabularyError
from support.models.networks import artifact_of, network_of
from support.processes.commands import lmtool, run_fresh
from support.scale import Many, Tally

PROMISE = "Odd text"
BOM = "\ufeff"
WORDS = ["<eos>", "<unk>", "the", "cat", ".", "don't", "\u05e9\u05dc\u05d5\u05dd", "caf\xe9", "os.path", "i", "\u03c3"]
CHARACTERS = ["\n", "\ufffd", " ", "t", "h", "e", "\r", BOM, "\u05e9", "\U0001f600", "\0"]
MERGES = ["t h", "th e", "Ġ the", "\xd7 \xa9"]
PLANES = range(17)
LONG = 10_000
LONE = "the \ud800 cat \udfff\ud83d"

ODD = {
    "nothing": "",
    "empty lines": "\n\n\nthe\n\n",
    "white space only": " \t \u3000\n ",
    "NUL": "the\0cat \0\n\0",
    "lone surrogates": LONE,
    "right to left": "\u05e9\u05dc\u05d5\u05dd the \u202ecat\u202c \u200fthe\n\u0627\u0644\u0633",
    "CRLF": "the cat\r\nthe\r\n\r\n",
    "a byte-order mark": f"{BOM}the cat\n{BOM}the",
    "other line ends": "the\x0bcat\x0cthe\x1ccat\x85the\u2028cat\u2029the",
    "other spaces": "the\xa0cat\u3000the\u200bcat\u2009the",
    "letter case": "\u0130\u0130 THE Cat \u1e9e \u01c5 \u0391\u03a3 \u0391\u03a3. \u03a3",
    "marks": "don't 'the' os.path. the... e\u0301 cat-- -- \u2019 the",
    "special tokens": "<unk><eos> <eos>the\n<unk>a <eos>.",
    "only unknown words": "zzz qqq\nxxx",
    "emoji": "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 the",
}
PIECES = [
    *" \n\r\t\0.'-<>",
    BOM,
    "the",
    "cat",
    "don",
    "<unk>",
    "\u2028",
    "\x85",
    "\u05e9",
    "\u0130",
    "\U0001f600",
    "\u0301",
]


def random_text(seed: int) -> str:
    """Random odd pieces and characters of every plane."""
    draw = random.Random(seed)
    return "".join(draw.choice(PIECES) if draw.random() < 0.8 else of_plane(draw) for _ in range(draw.randrange(1, 60)))


def of_plane(draw: random.Random) -> str:
    character = chr(draw.choice(PLANES) << 16 | draw.randrange(0x10000))
    return "\n" if "\ud800" <= character <= "\udfff" else character


def long_texts(size: int) -> dict[str, str]:
    """Texts of `size` characters with long words."""
    return {
        "one long word": "x" * size,
        "one long row of marks": ".'" * (size // 2),
        "a long word": f"the {'e' * size}",
    }


@pytest.fixture(scope="module", params=["whitespace", "words", "words-2", "characters", "bpe"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenization = Tokenization.of_rule(request.param, MERGES if request.param == "bpe" else ())
    tokens = {"characters": CHARACTERS, "bpe": list(tokenization.required)}.get(request.param, WORDS)
    path = tmp_path_factory.mktemp("odd") / f"{request.param}.onnx"
    path.write_bytes(artifact_of(network_of((7, 3), vocabulary=len(tokens)), tokens, tokenization))
    return path


def ids_by_every_path(predictor: Predictor, text: str, seed: int, folder: Path) -> Iterator[tuple[str, list[int]]]:
    """(name, token ids) of each code path that tokenizes."""
    vocabulary = predictor.vocabulary
    tokenization = vocabulary.tokenization
    shown = [vocabulary.text(index) for index in vocabulary.encode(text)]
    yield "the score", vocabulary.encode(text) if list(predictor.score(text).tokens) == shown else []
    parts = cut(text, seed)
    chunks = tokenization.split_chunks(parts)
    yield "split in chunks", [vocabulary.id(token) for tokens in chunks for token in tokens]
    yield "a stream", ids_of_stream(predictor, [text])
    if len(text) < LONG:
        yield "a stream, line by line", ids_of_stream(predictor, lines_of(text))
    if len(text) < LONG and tokenization.unit == "char":
        yield "a stream, by characters", ids_of_stream(predictor, list(text))
    tokens, letters = tokenization.split_unfinished(text)
    yield "a line that is typed", [vocabulary.id(token) for token in [*tokens, *tokenization.split(letters)]]
    not_in_files = "\0" if tokenization.takes_returns else "\r\0"  # in files CR is a newline
    if not any("\ud800" <= character <= "\udfff" or character in not_in_files for character in text):
        yield "a corpus", corpus_ids(folder, text, vocabulary)


def lines_of(text: str) -> list[str]:
    return [f"{line}\n" for line in text.split("\n")[:-1]] + [text.split("\n")[-1]]


def cut(text: str, seed: int) -> list[str]:
    """The text, cut at random."""
    draw = random.Random(seed)
    places = sorted(draw.randrange(len(text) + 1) for _ in range(min(8, len(text))))
    return [text[start:stop] for start, stop in zip([0, *places], [*places, len(text)], strict=True)]


def ids_of_stream(predictor: Predictor, pieces: list[str]) -> list[int]:
    """The ids that a stream reads; checks that it also predicts."""
    stream, read_ids = predictor.stream(), []
    feed_ids = stream.feed_ids

    def record_ids(ids: Any) -> None:
        read_ids.extend(ids)
        feed_ids(ids)

    stream.feed_ids = record_ids  # type: ignore[method-assign]
    for piece in pieces:
        stream.feed(piece)
    assert np.isfinite(stream.logits()).all()
    return read_ids


def corpus_ids(folder: Path, text: str, vocabulary: Vocabulary) -> list[int]:
    """The ids of a corpus of this text. A file loses one byte-order mark, which is not part of the text."""
    for split in ("train", "valid", "test"):
        (folder / f"{split}.txt").write_bytes(f"{BOM}{text}".encode() if text.startswith(BOM) else text.encode())
    return [int(index) for index in load_corpus_with(str(folder), vocabulary).ids["train"]]


def test_every_path_gives_the_same_tokens(model: Path, tmp_path: Path, many: Many, tally: Tally) -> None:
    predictor = Predictor.load(model)
    texts = {**ODD, **{f"seed {seed}": random_text(seed) for seed in range(many(20, 2000))}}
    texts |= long_texts(many(10_000, 1_000_000))
    paths = 0
    for seed, (name, text) in enumerate(texts.items()):
        expected = predictor.vocabulary.encode(text)
        for path, ids in ids_by_every_path(predictor, text, seed, tmp_path):
            assert ids == expected, f"{name} ({text[:80]!r}) by {path}"
            paths += 1
    tally(PROMISE, tried=len(texts), what=f"texts, {model.stem}", paths=paths, other_tokens=0, failures=0)


def test_autocompletion_and_pool_read_the_same_text(model: Path, many: Many) -> None:
    predictor = Predictor.load(model)
    texts = [*ODD.values(), *(random_text(seed) for seed in range(many(10, 200)))]
    with StreamPool(predictor, PoolOptions(max_streams=2)) as pool:
        for text in texts:
            line = text.split("\n")[0]
            typed = Autocompletion(predictor, 2)
            typed.suggestions(line)
            typed.end_line(line)
            ids = [predictor.vocabulary.end_of_sentence_id, *predictor.vocabulary.encode(text)]
            stream = predictor.stream()
            stream.feed(text)
            pooled = pool.open_stream()
            logits = pool.step(pooled, ids)
            np.testing.assert_array_equal(np.ravel(logits), stream.logits())
            pool.close_stream(pooled)


def test_the_command_gives_the_same_tokens_for_arguments_and_lines(model: Path, many: Many, tally: Tally) -> None:
    vocabulary = Predictor.load(model).vocabulary
    texts = [*ODD.values(), *(random_text(seed) for seed in range(many(20, 500)))]
    texts.remove(LONE)
    finished = lmtool("score", "--model", model, "--json", "--", *texts)
    assert finished.returncode == 0, finished.stderr
    assert tokens_in(finished.stdout) == [expected(vocabulary, text) for text in texts]
    shown = lmtool("score", "--model", model, "--per-token", "--", *texts)
    assert shown.returncode == 0, shown.stderr
    piped = "\n".join(text for text in texts if "\0" not in text)  # NUL is refused in files and standard input
    finished = lmtool("score", "--model", model, "--json", stdin=piped)
    assert finished.returncode == 0, finished.stderr
    lines = re.split("\r\n|\r|\n", piped.removesuffix("\n").removeprefix(BOM))
    assert tokens_in(finished.stdout) == [expected(vocabulary, line) for line in lines]
    tally(
        PROMISE, tried=len(texts) + len(lines), what=f"texts for lmtool score, {model.stem}", other_tokens=0, failures=0
    )


def tokens_in(output: str) -> list[list[str]]:
    return [json.loads(line)["tokens"] for line in output.splitlines()]


def expected(vocabulary: Vocabulary, text: str) -> list[str]:
    return [vocabulary.text(index) for index in vocabulary.encode(text)]


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_arguments_that_are_not_text_are_usage_errors(artifact_path: Path, encoding: str) -> None:
    """Python decodes such arguments to lone surrogates, which terminals cannot print."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = ("score", "--model", artifact_path, "--", "the \udcff\udc80 caf\xe9")
    finished = run_fresh(*command, env=environment, errors="surrogateescape")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert r"\udcff\udc80" in finished.stderr
    assert "is not UTF-8" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_characters_outside_the_terminal_encoding_are_escaped(artifact_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    finished = run_fresh("score", "--model", artifact_path, "--", "the caf\xe9", env=environment)
    assert finished.returncode == 0, finished.stderr
    assert r"the caf\xe9" in finished.stdout


def test_characters_round_trip(many: Many, tally: Tally) -> None:
    """Characters outside the vocabulary, and halves of surrogate pairs, become U+FFFD, and line ends newlines."""
    tokenization = Tokenization.of_rule("characters")
    texts = [*ODD.values(), *(random_text(seed) for seed in range(many(100, 5000)))]
    every_plane = "".join(chr(plane << 16 | offset) for plane in PLANES for offset in (0x20, 0x1234, 0xFFFF))
    for text in [*texts, every_plane]:
        known = sorted(set(text) - {chr(code) for code in range(0xD800, 0xE000)} | set(tokenization.specials))
        vocabulary = Vocabulary(known, tokenization)
        back = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
        back = back.replace("\r\n", "\n").replace("\r", "\n")
        assert vocabulary.decode(vocabulary.encode(text)) == back, repr(text)
    with pytest.raises(VocabularyError, match="is no Unicode text: it holds half a surrogate pair"):
        Vocabulary(["\n", "\ufffd", "\ud800"], tokenization)
    lacking = Vocabulary(["\n", "\ufffd", "a"], tokenization)
    assert lacking.decode(lacking.encode("ab\t\r\n")) == "a\ufffd\ufffd\n"
    tally(
        PROMISE,
        what="texts of characters, there and back",
        tried=len(texts) + 1,
        not_reversible="what the vocabulary lacks; halves of surrogate pairs",
    )


@pytest.mark.parametrize("rule", ["whitespace", "words", "words-2"])
def test_careless_paths_give_other_tokens(rule: str, tally: Tally) -> None:
    """Positive control: tokenize parts alone, and lines by `str.splitlines`."""
    tokenization = Tokenization.of_rule(rule)
    texts = [*ODD.values(), *(random_text(seed) for seed in range(300))]
    in_parts = [
        [token for part in cut(text, seed) for token in tokenization.split(part)] for seed, text in enumerate(texts)
    ]
    by_lines = [tokenization.split("\n".join(text.splitlines())) for text in texts]
    different = [
        sum(tokens != tokenization.split(text) for tokens, text in zip(careless, texts, strict=True))
        for careless in (in_parts, by_lines)
    ]
    assert min(different) > len(texts) // 20
    control = f"split part by part {different[0]} differ, by str.splitlines {different[1]}"
    tally(PROMISE, tried=len(texts), control=control)

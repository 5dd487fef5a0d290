"""A corpus: train, valid and test text as token ids over one vocabulary, from a folder or from `pydocs`."""

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import OptionError, StorageError
from ..runtime.files import make_folder, read_text, write_atomically
from ..runtime.tokenization import Tokenization
from ..runtime.vocabulary import Vocabulary
from .errors import DataError
from .pydocs import read_pydocs

SPLITS = ("train", "valid", "test")
PYDOCS = "pydocs"
AUTO = "auto"
_FILE_NAMES = ("{}.txt", "ptb.{}.txt", "wiki.{}.tokens")
_TEXT_SUFFIXES = frozenset({".txt", ".md", ".rst", ".text"})
_HELD_OUT_SHARE = 20


@final
@dataclass(frozen=True, eq=False)
class Corpus:
    """Encoded text.

    Attributes:
        name: `pydocs`, or the folder's path.
        sha256: Hash of the three texts.
        vocabulary: Built from the training text: ids by falling count, ties alphabetical.
        ids: Split -> int32 [tokens].
    """

    name: str
    sha256: str
    vocabulary: Vocabulary
    ids: Mapping[str, NDArray[np.int32]]

    def split(self, name: str) -> NDArray[np.int32]:
        """The ids of `train`, `valid` or `test`.

        Raises:
            OptionError: There is no such split.
        """
        if name not in self.ids:
            raise OptionError(f"there is no split {name!r}, expected one of {', '.join(self.ids)}")
        return self.ids[name]

    def unigram_perplexity(self, split: str) -> float:
        """Perplexity of `split` under the training text's token frequencies (each count plus one)."""
        counts = np.bincount(self.ids["train"], minlength=len(self.vocabulary)) + 1.0
        log_probs = np.log(counts / counts.sum())
        return float(np.exp(-log_probs[self.split(split)[1:]].mean()))


def load_corpus(name: str, rule: str, min_count: int = 1) -> Corpus:
    """Read a corpus and build its vocabulary.

    Args:
        name: `pydocs`, or the path of a folder of UTF-8 text (see `read_splits`).
        rule: Tokenization rule; `auto` is `words` for pydocs and `whitespace` for a folder.
        min_count: Tokens seen less often in the training text become the unknown token.

    Raises:
        DataError: There is no such folder, no text in it, or too little of it.
        StorageError: A file cannot be read or is not UTF-8.
    """
    texts = read_splits(name)
    if rule == AUTO:
        rule = "words" if name == PYDOCS else "whitespace"
    tokenization = Tokenization.of_rule(rule)
    tokens = tokenization.split(texts["train"])
    vocabulary = build_vocabulary(tokens, tokenization, min_count)
    _require_words(name, vocabulary, min_count)
    ids = {"train": _ids(vocabulary, tokens)}
    for split in ("valid", "test"):
        ids[split] = _ids(vocabulary, tokenization.split(texts[split]))
        if len(ids[split]) < 2:
            raise DataError(f"the {split} text of {name} holds {len(ids[split])} tokens, expected at least 2")
    return Corpus(name, _hash(texts), vocabulary, ids)


def load_corpus_with(name: str, vocabulary: Vocabulary) -> Corpus:
    """Read a corpus and encode it with the vocabulary of a trained model.

    Raises:
        DataError: As for `load_corpus`.
        StorageError: As for `load_corpus`.
    """
    texts = read_splits(name)
    ids = {split: np.array(vocabulary.encode(text), np.int32) for split, text in texts.items()}
    return Corpus(name, _hash(texts), vocabulary, ids)


def build_vocabulary(tokens: list[str], tokenization: Tokenization, min_count: int) -> Vocabulary:
    """Tokens by falling count, ties alphabetical; rare ones are counted as the unknown token.

    A special token that the text does not hold comes last.
    """
    counts = Counter(tokens)
    kept = Counter({token: count for token, count in counts.items() if count >= min_count})
    if len(kept) < len(counts):
        kept[tokenization.unknown] += counts.total() - kept.total()
    for token in tokenization.specials:
        kept.setdefault(token, 0)
    return Vocabulary(sorted(kept, key=lambda token: (-kept[token], token)), tokenization)


def read_splits(name: str) -> dict[str, str]:
    """The texts `train`, `valid`, `test` of a corpus.

    A folder holds `train.txt`, `valid.txt`, `test.txt` (or `ptb.train.txt` ..., `wiki.train.tokens` ...). Any other
    folder of text files (.txt, .md, .rst, .text) is read in order of their names; the first 90 % of the lines are
    train, the next 5 % valid, the rest test.

    Raises:
        DataError: There is no such folder, or no text in it.
        StorageError: A file cannot be read or is not UTF-8.
    """
    if name == PYDOCS:
        return dict(_pydocs())
    folder = Path(name)
    if not name or not _is_folder(folder):
        raise DataError(f"there is no folder {_shorten(name)!r}; expected {PYDOCS!r} or a folder of text files")
    for pattern in _FILE_NAMES:
        paths = {split: folder / pattern.format(split) for split in SPLITS}
        found = [path for path in paths.values() if path.is_file()]
        if found and len(found) < len(SPLITS):
            missing = [path.name for path in paths.values() if path not in found]
            raise DataError(f"{name} holds {found[0].name} but not {', '.join(missing)}; all three are needed")
        if found:
            return {split: read_text(path) for split, path in paths.items()}
    return _split_lines(name, folder)


def corpora() -> dict[str, str]:
    """The names that `read_splits` takes, with what each is."""
    files = "; ".join(", ".join(pattern.format(split) for split in SPLITS) for pattern in _FILE_NAMES)
    return {
        PYDOCS: "English prose from the documentation inside this Python; nothing is downloaded",
        "DIR": f"a folder with {files}",
        "DIR ...": f"or any folder of text files ({', '.join(sorted(_TEXT_SUFFIXES))}), split by lines 90/5/5",
    }


def write_splits(texts: Mapping[str, str], folder: Path) -> None:
    """Write `train.txt`, `valid.txt` and `test.txt` into `folder`, which is made if it is missing.

    Raises:
        StorageError: One of them is there already, or cannot be written; nothing is overwritten.
    """
    for split in texts:
        if (folder / f"{split}.txt").exists():
            raise StorageError(f"{folder / f'{split}.txt'} is there already; choose another folder, or remove it")
    make_folder(folder)
    for split, text in texts.items():
        write_atomically(folder / f"{split}.txt", text.encode())


@functools.cache
def _pydocs() -> Mapping[str, str]:
    return read_pydocs()


def _shorten(text: str, most: int = 120) -> str:
    """The beginning of a text that is too long for a message."""
    return text if len(text) <= most else f"{text[:most]}..."


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir() and os.access(path, os.R_OK | os.X_OK)
    except OSError:  # a name that is too long, for example
        return False


def _split_lines(name: str, folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _TEXT_SUFFIXES)
    if not paths:
        raise DataError(
            f"{name} holds no text; expected train.txt, valid.txt and test.txt, or files ending in "
            f"{', '.join(sorted(_TEXT_SUFFIXES))}"
        )
    lines = "\n".join(read_text(path).rstrip("\n") for path in paths).split("\n")
    held_out = max(len(lines) // _HELD_OUT_SHARE, 1)
    if len(lines) < 3:
        raise DataError(
            f"{name} holds {len(lines)} lines of text in {len(paths)} files, too few to set valid and test lines apart"
        )
    train, valid, test = lines[: -2 * held_out], lines[-2 * held_out : -held_out], lines[-held_out:]
    return {split: "\n".join(part) + "\n" for split, part in zip(SPLITS, (train, valid, test), strict=True)}


def _require_words(name: str, vocabulary: Vocabulary, min_count: int) -> None:
    words = [token for token in vocabulary.tokens if token not in vocabulary.tokenization.specials]
    if len(words) < 2:
        found = f"only the token {words[0]!r}" if words else "no tokens"
        often, fix = (f" seen {min_count} times", "; keep rarer ones: --set min_count=1") if min_count > 1 else ("", "")
        raise DataError(f"the training text of {name} holds {found}{often}; expected at least two different ones{fix}")


def _ids(vocabulary: Vocabulary, tokens: list[str]) -> NDArray[np.int32]:
    return np.fromiter(map(vocabulary.id, tokens), np.int32, len(tokens))


def _hash(texts: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for split in SPLITS:
        digest.update(hashlib.sha256(texts[split].encode()).digest())
    return digest.hexdigest()

"""The texts of a corpus, from files or from `pydocs`, read in chunks so that any size fits in memory."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from ...runtime.errors import OptionError, StorageError, counted
from ...runtime.io.files import CHUNK_BYTES
from ...runtime.io.text_files import read_chunks
from ..errors import DataError
from .folder import read_folder
from .pydocs import read_pydocs

SPLITS = ("train", "valid", "test")
ALL = "all"
PYDOCS = "pydocs"
_FILE_NAMES = ("{}.txt", "ptb.{}.txt", "wiki.{}.tokens")
_TOKENIZED = ("ptb.{}.txt", "wiki.{}.tokens")
_PACKED = ".gz"
_HELD_OUT_SHARE = 20
_FEWEST_LINES = len(SPLITS)
_NAMES_SHOWN = 3


@final
@dataclass(frozen=True)
class Texts:
    """Where the text of a corpus is. Every text is an iterable of chunks that are read on demand.

    Attributes:
        name: `pydocs`, or the path of a file or folder.
        divided: Split -> its text; empty if the text is not divided yet.
        files: The texts of the files that are not divided, in order.
        skipped: Path -> why it is not read.
        is_file: Whether the corpus is one file.
        tokenized: The name of a file whose text is split into tokens already, as its name says; else empty.
    """

    name: str
    divided: Mapping[str, Iterable[str]] = field(default_factory=dict)
    files: tuple[Iterable[str], ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    is_file: bool = False
    tokenized: str = ""

    def splits(self) -> dict[str, Iterable[str]]:
        """The texts `train`, `valid`, `test`. A text that is not divided is: 90 % of its lines, 5 %, the rest.

        Raises:
            DataError: The text has too few lines.
            StorageError: A file cannot be read or is not UTF-8 text; at the latest when its chunks are read.
        """
        return dict(self.divided) or _split_lines(self.name, self.files)

    def whole(self) -> Iterable[str]:
        """All of the text."""
        texts = tuple(self.divided.values()) or self.files
        return texts[0] if len(texts) == 1 else _Joined(texts)

    @property
    def usual_split(self) -> str:
        """What is evaluated where no split is named: all of a single file, else `test`."""
        return ALL if self.is_file else "test"

    def of_split(self, name: str) -> Iterable[str]:
        """The text of a split, or with `all` all of it.

        Raises:
            OptionError: There is no such split.
            DataError, StorageError: As for `splits`.
        """
        if name == ALL:
            return self.whole()
        if name not in SPLITS:
            raise OptionError(f"there is no split {name!r}, expected one of {', '.join([*SPLITS, ALL])}")
        return self.splits()[name]

    def first(self) -> Iterable[str]:
        """The text that training begins with."""
        return self.divided["train"] if self.divided else _Joined(self.files)

    def notes(self) -> list[str]:
        """What is not read and why, one line for each reason."""
        by_reason: dict[str, list[str]] = {}
        for path, reason in self.skipped.items():
            by_reason.setdefault(reason, []).append(path)
        return [f"skipped {_listed(paths)}: {reason}" for reason, paths in by_reason.items()]


def find_texts(name: str, chunk_bytes: int = CHUNK_BYTES) -> Texts:
    """Find the texts of a corpus.

    A file is one text. A folder holds `train.txt`, `valid.txt`, `test.txt` (or `ptb.train.txt` ..., `wiki.train.tokens`
    ...). Of any other folder all text files are read, those of sub-folders too, sorted by path; names that begin with a
    dot are left out, and what holds no text is skipped. Files may be compressed by gzip (`train.txt.gz`).

    Args:
        name: `pydocs`, or the path of a file or folder.
        chunk_bytes: Bytes to read at once.

    Raises:
        DataError: There is no such file or folder, or no text in it.
        StorageError: A file or folder cannot be read.
    """
    if name == PYDOCS:
        return Texts(name, {split: (text,) for split, text in _pydocs().items()})
    path = Path(name)
    if not is_there(name):
        raise DataError(
            f"there is no file or folder {_shorten(name)!r}; expected {PYDOCS!r}, a text file or a folder of text files"
        )
    if not path.is_dir():
        return Texts(name, files=(_FileText(path, chunk_bytes),), is_file=True, tokenized=_tokenized_name(path))
    return _divided_folder(path, chunk_bytes) or _folder(path, chunk_bytes)


def is_there(name: str) -> bool:
    """Whether there is a corpus of this name.

    Raises:
        StorageError: A folder cannot be read.
    """
    return name == PYDOCS or (bool(name) and _exists(Path(name)))


def read_splits(name: str) -> dict[str, Iterable[str]]:
    """The texts `train`, `valid`, `test` of a corpus, each an iterable of chunks that are read on demand.

    Args:
        name: `pydocs`, or the path of a file or folder (see `find_texts`).

    Raises:
        DataError: There is no such file or folder, or no text or too little text in it.
        StorageError: A file cannot be read or is not UTF-8 text; at the latest when its chunks are read.
    """
    return find_texts(name).splits()


def corpora() -> dict[str, str]:
    """The names that `read_splits` accepts -> their descriptions."""
    files = "; ".join(", ".join(pattern.format(split) for split in SPLITS) for pattern in _FILE_NAMES)
    return {
        PYDOCS: "English prose from the documentation inside this Python; nothing is downloaded",
        "FILE": "a text file (.gz too), split by lines 90/5/5",
        "DIR": f"a folder with {files} (.gz too)",
        "DIR ...": "or any folder of text files, with its sub-folders, split by lines 90/5/5",
    }


@final
@dataclass(frozen=True)
class _FileText:
    """The text of one file."""

    path: Path
    chunk_bytes: int

    def __iter__(self) -> Iterator[str]:
        return read_chunks(self.path, self.chunk_bytes)


@final
@dataclass(frozen=True)
class _Joined:
    """Texts one after the other; each ends with exactly one newline."""

    texts: tuple[Iterable[str], ...]

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            newlines = 0
            for chunk in text:
                lines = chunk.rstrip("\n")
                if lines:
                    yield "\n" * newlines + lines
                    newlines = 0
                newlines += len(chunk) - len(lines)
            yield "\n"


@final
@dataclass(frozen=True)
class _Lines:
    """The lines of a text with the numbers `first` to `stop` - 1."""

    text: Iterable[str]
    first: int
    stop: int

    def __iter__(self) -> Iterator[str]:
        seen = 0
        for chunk in self.text:
            yield chunk[_after_newlines(chunk, self.first - seen) : _after_newlines(chunk, self.stop - seen)]
            seen += chunk.count("\n")
            if seen >= self.stop:
                return


def _after_newlines(text: str, count: int) -> int:
    """Index in `text` after `count` newlines; its length if it has fewer."""
    if count <= 0:
        return 0
    if text.count("\n") < count:
        return len(text)
    return len(text) - len(text.split("\n", count)[-1])


def _split_lines(name: str, files: tuple[Iterable[str], ...]) -> dict[str, Iterable[str]]:
    text = _Joined(files)
    lines, is_blank = 0, True
    for chunk in text:
        lines += chunk.count("\n")
        is_blank = is_blank and chunk.isspace()
    if is_blank:
        what = "holds nothing but white space" if any(chunk for file in files for chunk in file) else "is empty"
        raise DataError(f"{name} {what}, expected lines of text")
    if lines < _FEWEST_LINES:
        raise DataError(
            f"{name} holds {counted(lines, 'line')} of text, expected {_FEWEST_LINES} or more, as valid and test lines "
            "are set apart; write one sentence a line"
        )
    held_out = max(lines // _HELD_OUT_SHARE, 1)
    bounds = (0, lines - 2 * held_out, lines - held_out, lines)
    return {split: _Lines(text, *bounds[at : at + 2]) for at, split in enumerate(SPLITS)}


def _divided_folder(folder: Path, chunk_bytes: int) -> Texts | None:
    """The texts of a folder with one file for each split; None for other folders."""
    for pattern in _FILE_NAMES:
        paths = {split: _plain_or_packed(folder / pattern.format(split)) for split in SPLITS}
        present = [path for path in paths.values() if path.is_file()]
        if present and len(present) < len(SPLITS):
            missing = [path.name for path in paths.values() if path not in present]
            raise DataError(
                f"{folder} holds {present[0].name} but not {', '.join(missing)}; all three are needed, or name one "
                f"file and its lines are split: {present[0]}"
            )
        if present:
            names = [path.name for path in paths.values()]
            others = sorted(
                path.name for path in folder.iterdir() if path.name not in names and not path.name.startswith(".")
            )
            reason = f"beside {', '.join(names)} nothing is read"
            return Texts(
                str(folder),
                {split: _FileText(path, chunk_bytes) for split, path in paths.items()},
                skipped=dict.fromkeys(others, reason),
                tokenized=names[0] if pattern in _TOKENIZED else "",
            )
    return None


def _folder(folder: Path, chunk_bytes: int) -> Texts:
    found = read_folder(folder)
    texts = Texts(str(folder), files=tuple(_FileText(path, chunk_bytes) for path in found.files), skipped=found.skipped)
    if not found.files:
        raise DataError("; ".join([f"{folder} holds no text, expected a file of UTF-8 text", *texts.notes()]))
    return texts


def _plain_or_packed(path: Path) -> Path:
    packed = path.with_name(path.name + _PACKED)
    return packed if packed.is_file() and not path.is_file() else path


def _tokenized_name(path: Path) -> str:
    name = path.name.removesuffix(_PACKED)
    return name if any(name == pattern.format(split) for pattern in _TOKENIZED for split in SPLITS) else ""


@functools.cache
def _pydocs() -> Mapping[str, str]:
    return read_pydocs()


def _listed(names: list[str]) -> str:
    """`a, b, c and 4 others`; names with line breaks and other control characters are quoted."""
    names = [name if name.isprintable() else repr(name) for name in names]
    others = len(names) - _NAMES_SHOWN
    if others <= 1:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMES_SHOWN])} and {others:,} others"


def _shorten(text: str, most: int = 120) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except OSError:  # for example a name that is too long
        return False

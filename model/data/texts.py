"""The texts of a corpus, from a folder or from `pydocs`, read in chunks so that any size fits in memory."""

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from ...runtime.errors import StorageError
from ...runtime.io.files import CHUNK_BYTES, discard, make_folder, read_chunks, staged
from ..errors import DataError
from .pydocs import read_pydocs

SPLITS = ("train", "valid", "test")
PYDOCS = "pydocs"
_FILE_NAMES = ("{}.txt", "ptb.{}.txt", "wiki.{}.tokens")
_TEXT_SUFFIXES = frozenset({".txt", ".md", ".rst", ".text"})
_HELD_OUT_SHARE = 20


def read_splits(name: str, chunk_bytes: int = CHUNK_BYTES) -> dict[str, Iterable[str]]:
    """The texts `train`, `valid`, `test` of a corpus, each an iterable of chunks that are read on demand.

    A folder holds `train.txt`, `valid.txt`, `test.txt` (or `ptb.train.txt` ..., `wiki.train.tokens` ...). In any other
    folder the text files (.txt, .md, .rst, .text) are read sorted by name; the first 90 % of the lines are train, the
    next 5 % valid, the rest test.

    Args:
        name: `pydocs`, or the path of a folder.
        chunk_bytes: Bytes to read at once.

    Raises:
        DataError: There is no such folder, or no text in it.
        StorageError: A file cannot be read or is not UTF-8; at the latest when its chunks are read.
    """
    if name == PYDOCS:
        return {split: (text,) for split, text in _pydocs().items()}
    folder = Path(name)
    if not name or not _is_folder(folder):
        raise DataError(f"there is no folder {_shorten(name)!r}; expected {PYDOCS!r} or a folder of text files")
    for pattern in _FILE_NAMES:
        paths = {split: folder / pattern.format(split) for split in SPLITS}
        present = [path for path in paths.values() if path.is_file()]
        if present and len(present) < len(SPLITS):
            missing = [path.name for path in paths.values() if path not in present]
            raise DataError(f"{name} holds {present[0].name} but not {', '.join(missing)}; all three are needed")
        if present:
            return {split: _FileText(path, chunk_bytes) for split, path in paths.items()}
    return _split_lines(name, folder, chunk_bytes)


def corpora() -> dict[str, str]:
    """The names that `read_splits` accepts -> their descriptions."""
    files = "; ".join(", ".join(pattern.format(split) for split in SPLITS) for pattern in _FILE_NAMES)
    return {
        PYDOCS: "English prose from the documentation inside this Python; nothing is downloaded",
        "DIR": f"a folder with {files}",
        "DIR ...": f"or any folder of text files ({', '.join(sorted(_TEXT_SUFFIXES))}), split by lines 90/5/5",
    }


def write_splits(texts: Mapping[str, Iterable[str]], folder: Path) -> dict[str, int]:
    """Write `train.txt`, `valid.txt` and `test.txt` into `folder`, which is created if necessary.

    Returns:
        The size of each split in bytes.

    Raises:
        StorageError: A file exists already, or cannot be written, or a text cannot be read. Nothing is written then.
    """
    paths = {split: folder / f"{split}.txt" for split in texts}
    for path in paths.values():
        if path.exists():
            raise StorageError(f"{path} is there already; choose another folder, or remove it")
    make_folder(folder)
    try:
        return _write_all(texts, paths)
    except BaseException:
        for path in paths.values():
            discard(path)
        raise


def _write_all(texts: Mapping[str, Iterable[str]], paths: Mapping[str, Path]) -> dict[str, int]:
    sizes = {}
    with contextlib.ExitStack() as stack:
        for split, text in texts.items():
            with stack.enter_context(staged(paths[split])).open("wb") as file:
                sizes[split] = sum(file.write(chunk.encode()) for chunk in text)
    return sizes


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
class _JoinedText:
    """Files one after the other; each ends with exactly one newline."""

    paths: tuple[Path, ...]
    chunk_bytes: int

    def __iter__(self) -> Iterator[str]:
        for path in self.paths:
            newlines = 0
            for chunk in read_chunks(path, self.chunk_bytes):
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


def _split_lines(name: str, folder: Path, chunk_bytes: int) -> dict[str, Iterable[str]]:
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _TEXT_SUFFIXES)
    if not paths:
        raise DataError(
            f"{name} holds no text; expected train.txt, valid.txt and test.txt, or files ending in "
            f"{', '.join(sorted(_TEXT_SUFFIXES))}"
        )
    text = _JoinedText(tuple(paths), chunk_bytes)
    lines = sum(chunk.count("\n") for chunk in text)
    if lines < 3:
        raise DataError(
            f"{name} holds {lines} lines of text in {len(paths)} files, too few to set valid and test lines apart"
        )
    held_out = max(lines // _HELD_OUT_SHARE, 1)
    bounds = (0, lines - 2 * held_out, lines - held_out, lines)
    return {split: _Lines(text, *bounds[at : at + 2]) for at, split in enumerate(SPLITS)}


@functools.cache
def _pydocs() -> Mapping[str, str]:
    return read_pydocs()


def _shorten(text: str, most: int = 120) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir() and os.access(path, os.R_OK | os.X_OK)
    except OSError:  # for example a name that is too long
        return False

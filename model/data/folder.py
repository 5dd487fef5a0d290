"""The text files of a folder and its sub-folders."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from ...runtime.errors import StorageError
from ...runtime.io.formats import HEAD_BYTES, recognize_binary
from ...runtime.io.text_files import read_head


@final
@dataclass(frozen=True)
class TextFolder:
    """What a folder holds, sorted by path; names that begin with a dot are left out.

    Attributes:
        files: The files that hold text, also in another encoding, or compressed by gzip.
        skipped: Path within the folder -> why it is not read.
    """

    files: tuple[Path, ...]
    skipped: dict[str, str]


def read_folder(folder: Path) -> TextFolder:
    """Find the text files of a folder.

    Raises:
        StorageError: The folder, a sub-folder or a file cannot be read.
    """
    files, skipped = [], {}
    for path, reason in sorted(_entries(folder), key=lambda entry: entry[0].parts):
        if reason is None:
            files.append(path)
        else:
            skipped[str(path.relative_to(folder))] = reason
    return TextFolder(tuple(files), skipped)


def _entries(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """(path, reason to skip it) of each file, and of each sub-folder that is not entered."""
    waiting = [folder]
    while waiting:
        for path in _visible(waiting.pop()):
            if not path.is_dir():
                yield path, _reason_to_skip(path)
            elif path.is_symlink():
                yield path, "a link to a folder; read that folder itself, or a copy"
            elif (path / "checkpoints").is_dir() and (path / "vocabulary.json").is_file():
                yield path, "the run folder of a training"
            else:
                waiting.append(path)


def _visible(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise StorageError(f"cannot read the folder {folder}: {error.strerror or error}") from error


def _reason_to_skip(path: Path) -> str | None:
    if path.exists() and not path.is_file():
        return "a pipe, a device or another special file"
    head = read_head(path, HEAD_BYTES)
    if not head:
        return "empty"
    kind = recognize_binary(head)
    return None if kind is None else f"{kind.name}; {kind.fix}"

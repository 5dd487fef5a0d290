"""Files: read whole, replaced atomically, so that no reader sees half a file."""

import contextlib
import json
import math
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import StorageError

CHUNK_BYTES = 1 << 17
RETRY_AFTER_SECONDS = (0.5, 2.0, 5.0)
"""Pauses for `write_atomically`, so that a disk that is full for a moment does not end a long job."""


def read_bytes(path: Path) -> bytes:
    """The file's bytes.

    Raises:
        StorageError: The file is missing, cannot be read, or is a folder, a pipe or a device.
    """
    with opened(path) as file:
        return file.read()


@contextlib.contextmanager
def opened(path: Path, pipes: bool = False) -> Iterator[BinaryIO]:
    """The file, open for reading; errors are raised as StorageError."""
    try:
        if pipes and path.is_fifo():
            with path.open("rb") as file:  # waits for the writer
                yield file
        else:
            with open(path, "rb", opener=_open_plain) as file:
                yield file
    except StorageError:
        raise
    except IsADirectoryError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}, expected a file") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def _open_plain(path: str, flags: int) -> int:
    """Open without waiting, as a pipe without a writer blocks, and check the file type before reading."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # a folder is refused by `open` itself
        return descriptor
    os.close(descriptor)
    raise StorageError(f"cannot read {path}: it is a pipe, a device or another special file, expected a plain file")


def write_atomically(path: Path, data: bytes, retry_after_seconds: Sequence[float] = ()) -> None:
    """Write `data` to `path`: temporary file, flush, fsync, rename, fsync of the folder.

    `path` always holds either its old content or all of the new one.

    Args:
        path: The file.
        data: Its new content.
        retry_after_seconds: Pauses before each retry of a failed write.

    Raises:
        StorageError: The disk is full, the folder is missing or not writable, or `path` is a folder.
    """
    for pause in retry_after_seconds:
        try:
            return _write(path, data)
        except StorageError:
            time.sleep(pause)
    return _write(path, data)


def _write(path: Path, data: bytes) -> None:
    with staged(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder that becomes `path` if the block succeeds; errors are StorageErrors."""
    if path.is_dir():
        raise StorageError(f"cannot write {path}: it is a folder, a file name is expected")
    if path.exists() and not path.is_file():
        raise StorageError(f"cannot write {path}: it is a device or another special file, a plain file is expected")
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        discard(temporary)


def discard(path: Path) -> None:
    """Remove a file if it exists and can be removed."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """An empty folder for a `with` block; StorageError if it cannot be made."""
    import tempfile  # slow to import

    try:
        folder = tempfile.TemporaryDirectory()
    except OSError as error:
        raise no_room(error) from error
    with folder as name:
        yield Path(name)


def no_room(error: OSError) -> StorageError:
    """The error for temporary files that cannot be written."""
    return StorageError(
        f"cannot write temporary files: {error.strerror or error}; name a folder that has room for them: TMPDIR=DIR"
    )


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of killed writers of `path`; no other process may be writing it."""
    target = path.resolve()
    temporary = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.tmp")
    with contextlib.suppress(OSError):
        for file in target.parent.iterdir():
            if temporary.fullmatch(file.name):
                discard(file)


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that every parser accepts: NaN and infinity become null."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def make_folder(path: Path) -> None:
    """Make a folder and its parents unless it exists; StorageError if it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {path}: {error.strerror or error}; choose another one") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

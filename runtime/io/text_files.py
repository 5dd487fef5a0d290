"""UTF-8 text from files and standard input, whole or in chunks.

A leading byte-order mark is dropped, and CR LF and CR are newlines as LF is. What is no text is refused with the
command that makes text of it.
"""

import codecs
import io
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

from ..errors import StorageError
from .files import CHUNK_BYTES, opened
from .formats import BINARY, GZIP, HEAD_BYTES, Format, format_with_nul, may_begin_signature, recognize

_BYTE_ORDER_MARK = "\ufeff"
_MOST_EXPANSION, _ALWAYS_UNPACKED_BYTES = 200, 1 << 20


def read_text(path: Path) -> str:
    """The file's text. A pipe is read to its end.

    Raises:
        StorageError: The file is missing, cannot be read, is a folder or a device, or is not UTF-8 text.
    """
    with opened(path, pipes=True) as file:
        return decode_text(file.read(), str(path))


def decode_text(data: bytes, name: str, offset: int = 0, *, is_start: bool = True) -> str:
    """The text of `data`, which is at `offset` in `name`; StorageError, which names both, if it is not UTF-8 text."""
    return "".join(decode_chunks((data,), name, offset, is_start=is_start))


def read_chunks(path: Path, chunk_bytes: int = CHUNK_BYTES) -> Iterator[str]:
    """The text of a file as `read_text` reads it, in chunks; a file compressed by gzip is unpacked.

    Args:
        path: The file.
        chunk_bytes: Bytes to read at once.

    Raises:
        StorageError: As for `read_text`; a pipe; the compressed data is damaged, or expands beyond 200 times its size.
            Raised when reading reaches the error.
    """
    with opened(path) as file:
        yield from decode_chunks(_unpacked_blocks(file, path, chunk_bytes), str(path))


def read_head(path: Path, size_bytes: int) -> bytes:
    """The first bytes of a file; if it is compressed by gzip, of its content.

    Raises:
        StorageError: As for `read_chunks`.
    """
    with opened(path) as file:
        return next(_unpacked_blocks(file, path, size_bytes), b"")


def decode_chunks(blocks: Iterable[bytes], name: str, offset: int = 0, *, is_start: bool = True) -> Iterator[str]:
    """The text of `blocks`, which may be cut anywhere; each is decoded before the next is asked for.

    Args:
        blocks: The bytes.
        name: Stands for them in messages.
        offset: Where they begin; a byte-order mark or another format is looked for at 0 only.
        is_start: Whether offset 0 is the start of a file and not of a line.

    Raises:
        StorageError: The bytes are not UTF-8 text, or hold NUL. The message names `name`.
    """
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    rest = b""
    source = itertools.chain(_with_head(blocks), (b"",))
    for block in source:
        data = rest + block
        if b"\0" in data[: max(2 - offset, 0)]:  # refused; what follows tells as what
            data += _joined(source, lambda more: len(more) >= HEAD_BYTES)
        if is_start and offset == 0 and (kind := recognize(data)):
            raise _no_text(name, kind)
        text, used = _decode(data, not block, offset, name, is_start=is_start)
        text = text.removeprefix(_BYTE_ORDER_MARK) if is_start and offset == 0 else text
        yield newlines.decode(text, final=not block)
        offset, rest = offset + used, data[used:]


def _with_head(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks; the first ones are joined until they show whether a signature begins them."""
    source = iter(blocks)
    head = _joined(source, lambda head: not may_begin_signature(head))
    if head:
        yield head
    yield from filter(None, source)


def _joined(blocks: Iterator[bytes], is_enough: Callable[[bytes], bool]) -> bytes:
    """The next blocks, joined, until they are enough or end."""
    joined = b""
    for block in blocks:
        joined += block
        if is_enough(joined):
            break
    return joined


def _decode(data: bytes, final: bool, offset: int, name: str, *, is_start: bool) -> tuple[str, int]:
    """The text of `data`, which begins at `offset`, and the bytes that it takes; an unfinished character is left."""
    failure = None
    try:
        text, used = codecs.utf_8_decode(data, "strict", final)
    except UnicodeDecodeError as error:
        failure, text, used = error, "", error.start
    nul = data.find(b"\0", 0, used)
    if nul >= 0:
        kind = format_with_nul(offset + nul, data[nul + 1 :]) if is_start else BINARY
        raise _no_text(name, kind, f" (NUL at offset {offset + nul:,})")
    if failure is not None:
        raise StorageError(
            f"{name} is not UTF-8 text: byte {data[used]:#04x} at offset {offset + used:,}; convert it, for example "
            f"with: iconv -f windows-1252 -t utf-8"
        ) from failure
    return text, used


def _no_text(name: str, kind: Format, where: str = "") -> StorageError:
    return StorageError(f"{name} is {kind.name}{where}, expected UTF-8 text; {kind.fix}")


def _unpacked_blocks(file: BinaryIO, path: Path, size_bytes: int) -> Iterator[bytes]:
    """The bytes of a file, unpacked if they are compressed by gzip."""
    packed = file.read(len(GZIP)) == GZIP
    file.seek(0)
    blocks = iter(lambda: file.read(size_bytes), b"")
    return _unpack(file, path, size_bytes) if packed else blocks


def _unpack(file: BinaryIO, path: Path, size_bytes: int) -> Iterator[bytes]:
    import gzip  # needed by few

    most = _MOST_EXPANSION * path.stat().st_size + _ALWAYS_UNPACKED_BYTES
    total = 0
    try:
        with gzip.GzipFile(fileobj=file) as content:
            while block := content.read(size_bytes):
                total += len(block)
                if total > most:
                    _refuse_expansion(path)
                yield block
    except EOFError as error:
        raise StorageError(f"{path} is cut off: its gzip data has no end; copy it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise StorageError(f"{path} is damaged: its gzip data is invalid ({error}); copy it again") from error


def _refuse_expansion(path: Path) -> NoReturn:
    raise StorageError(
        f"{path} expands to more than {_MOST_EXPANSION} times its size, as no usual text does; if you trust it, unpack "
        "it: gunzip"
    )

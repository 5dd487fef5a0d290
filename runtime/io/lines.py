"""Lines of a text that arrives in pieces, as soon as they are complete."""

from collections.abc import Iterator
from io import BufferedIOBase

from ..errors import StorageError
from .text_files import decode_text

MOST_LINE_BYTES = 1 << 26
_READ_BYTES = 1 << 20


def read_lines(file: BufferedIOBase, name: str, most_bytes: int = MOST_LINE_BYTES) -> Iterator[list[str]]:
    r"""The lines of a UTF-8 text without their ends (`\n`, `\r\n` or `\r`), those of one read together.

    A line is yielded when its end is read, however much of the text is still to come; a last line needs no end.

    Args:
        file: A binary file or pipe, which is read as far as there are bytes.
        name: Stands for it in messages.
        most_bytes: Most bytes of a line.

    Raises:
        StorageError: It cannot be read, a line is longer, or is not UTF-8; the lines before it have been yielded.
    """
    number = 0
    for block in _raw_lines(file, name, most_bytes):
        lines: list[str] = []
        try:
            for line in block:
                number += 1
                # Only a text's first line may begin with the signature of another format.
                lines.append(decode_text(line, f"line {number:,} of {name}", is_start=number == 1))
        except StorageError:
            yield lines
            raise
        yield lines


def _raw_lines(file: BufferedIOBase, name: str, most_bytes: int) -> Iterator[list[bytes]]:
    parts: list[bytes] = []
    size, after_return = 0, False
    while block := _read(file, name):
        lines: list[bytes] = []
        for piece in block.removeprefix(b"\n" if after_return else b"").splitlines(keepends=True):
            line = piece.rstrip(b"\r\n")
            parts.append(line)
            size += len(line)
            if size > most_bytes:
                yield lines
                raise StorageError(
                    f"a line of {name} is longer than {most_bytes:,} bytes, expected lines of text; split it first"
                )
            if len(line) < len(piece):
                lines.append(b"".join(parts))
                parts, size = [], 0
        yield lines
        after_return = block.endswith(b"\r")
    if parts:
        yield [b"".join(parts)]


def _read(file: BufferedIOBase, name: str) -> bytes:
    try:
        return file.read1(_READ_BYTES)
    except OSError as error:
        raise StorageError(f"cannot read {name}: {error.strerror or error}") from error

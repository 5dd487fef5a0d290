"""The protobuf wire format, as far as needed to read an ONNX file's metadata and write a small graph without onnx.

A message is a sequence of fields, each a key (number and wire type) and a value: a varint, 4 or 8 bytes, or a length
and its bytes. See https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ..errors import ArtifactError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_NUMBERS = 2**29
"""Upper bound of field numbers; other readers drop the bits above and see another field."""
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}

MOST_FIELDS = 100_000
"""Limit for a whole file; a network of two layers has less than a thousand."""


class Field(NamedTuple):
    """One field: its number, and either a varint `value` or the span of its bytes."""

    number: int
    value: int
    start: int
    end: int


def fields(data: memoryview, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of the message in `data[start:end]`; ArtifactError if it is damaged or has too many fields."""
    position = start
    count = 0
    end = len(data) if end is None else end
    while position < end:
        key, position = _varint(data, position, end)
        number, wire_type = key >> 3, key & 7
        value = 0
        stop = position
        if wire_type == _VARINT:
            value, stop = _varint(data, position, end)
        elif wire_type == _BYTES:
            size, position = _varint(data, position, end)
            stop = position + size
        elif wire_type in _FIXED_SIZES:
            stop = position + _FIXED_SIZES[wire_type]
        if not 0 < number < _NUMBERS or stop > end or (stop == position and wire_type != _BYTES):
            raise _damaged(position)
        count += 1
        if count > MOST_FIELDS:
            raise too_many()
        yield Field(number, value, position, stop)
        position = stop


def text(data: memoryview, field: Field) -> str:
    """The field's bytes as text; ArtifactError if they are not UTF-8."""
    try:
        return bytes(data[field.start : field.end]).decode()
    except UnicodeDecodeError as error:
        raise _damaged(field.start) from error


def message(*pairs: tuple[int, int | str | bytes]) -> bytes:
    """The bytes of a message with these field numbers and values; integers are not negative."""
    data = bytearray()
    for number, value in pairs:
        if isinstance(value, int):
            data += _as_varint(number << 3 | _VARINT) + _as_varint(value)
        else:
            content = value.encode() if isinstance(value, str) else value
            data += _as_varint(number << 3 | _BYTES) + _as_varint(len(content)) + content
    return bytes(data)


def _as_varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def too_many() -> ArtifactError:
    """The error about more than `MOST_FIELDS` fields."""
    return ArtifactError(
        f"it has more than {MOST_FIELDS:,} parts (nodes, attributes, tensors, names), "
        "expected a graph of a few thousand"
    )


def _damaged(position: int) -> ArtifactError:
    return ArtifactError(f"it is no ONNX file, or is damaged at byte {position:,}; copy or export it again")


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _damaged(position)

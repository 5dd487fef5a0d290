"""Messages between the harness and a worker in JavaScript: a header and arrays, in the machine's byte order.

A message is the length of its header (4 bytes, little-endian), the header (JSON), and the bytes of the arrays that the
header's `tensors` describes.
"""

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LENGTH = struct.Struct("<I")

Arrays = Mapping[str, NDArray[Any]]
Answer = tuple[dict[str, Any], list[NDArray[Any]]]
"""A header, and its tensors in order."""


def pack(header: Mapping[str, Any], tensors: Arrays) -> list[bytes | memoryview]:
    """The parts of a message."""
    described = [{"name": name, "type": str(array.dtype), "shape": array.shape} for name, array in tensors.items()]
    text = json.dumps({**header, "tensors": described}).encode()
    return [_LENGTH.pack(len(text)) + text, *(_bytes_of(np.ascontiguousarray(array)) for array in tensors.values())]


def unpack(fill: Callable[[memoryview], None]) -> Answer:
    """Read a message; `fill` writes the next bytes into a buffer."""
    (length,) = _LENGTH.unpack(_read(fill, _LENGTH.size))
    header: dict[str, Any] = json.loads(_read(fill, length))
    tensors = [np.empty(each["shape"], each["type"]) for each in header["tensors"]]
    for array in tensors:
        fill(_bytes_of(array))
    return header, tensors


def _read(fill: Callable[[memoryview], None], size: int) -> bytes:
    data = bytearray(size)
    fill(memoryview(data))
    return bytes(data)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data

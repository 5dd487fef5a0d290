"""Checks that every weight in an ONNX file is finite, from the file's bytes, without onnx.

The field numbers are from https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import itertools
import reprlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtifactError
from . import protobuf
from .safety import TensorSpans

_TYPE, _FLOATS, _VARINTS, _NAME, _RAW, _DOUBLES = 2, 4, 5, 8, 9, 10

_DIMENSION, _INT8 = 1, 3

LARGEST_PAIR = 128
"""Largest sum of the magnitudes of two neighbouring weights of a column of an int8 matrix.

x86-64 without VNNI multiplies uint8 by int8 and adds neighbouring pairs of products in 16 bits, which saturate at
32,767. 255 * 128 does not reach it. Weights of 7 bits would not either, at a larger loss; see docs/results.md."""

_HALF_EXPONENT, _BFLOAT_EXPONENT = 0x7C00, 0x7F80
"""The exponent bits of a 16-bit number; all are set where it is NaN or infinite."""

_KINDS: dict[int, str | int] = {1: "<f4", 10: _HALF_EXPONENT, 11: "<f8", 16: _BFLOAT_EXPONENT}
"""ONNX type -> numpy type or 16-bit exponent mask, for the types that have NaN and infinity."""

_INTEGERS = frozenset([2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 21, 22])
"""ONNX types without NaN and infinity: integers, strings, booleans."""

_HOLDING = {1: (_FLOATS, _RAW), 10: (_VARINTS, _RAW), 11: (_DOUBLES, _RAW), 16: (_VARINTS, _RAW)}
"""ONNX type -> the fields that may hold its values."""

_BLOCK_BYTES = 1 << 20


def require_finite(spans: TensorSpans) -> None:
    """Raise ArtifactError, which names the tensor, for a weight that is NaN, infinite or of an unknown type."""
    for tensor in spans.tensors:
        _require_finite(spans.data, tensor)
    for floats in spans.floats:
        for block in _blocks(spans.data, floats):
            if not _are_finite(block, "<f4"):
                raise _not_finite("attribute", f"at byte {floats.start:,}")


def require_exact_products(spans: TensorSpans) -> None:
    """Raise ArtifactError, which names the tensor, for an int8 matrix whose products may saturate.

    Processors without VNNI add pairs of products of uint8 and int8 in 16 bits.
    """
    for tensor in spans.tensors:
        kind, name = _kind_and_name(spans.data, tensor)
        if kind == _INT8 and not _products_are_exact(spans.data, tensor):
            raise ArtifactError(
                f"its int8 matrix {name} has neighbouring weights whose magnitudes add up to more than "
                f"{LARGEST_PAIR}, so its products are wrong on processors without VNNI; export it again"
            )


def largest_pair(integers: NDArray[np.int8]) -> int:
    """Largest sum of the magnitudes of two neighbouring weights of a column of int8 [inputs, outputs]."""
    magnitudes = np.abs(integers.astype(np.int16))
    return int((magnitudes[:-1] + magnitudes[1:]).max(initial=0))


def _products_are_exact(data: memoryview, tensor: protobuf.Field) -> bool:
    parts = protobuf.fields(data, tensor.start, tensor.end)
    dimensions = itertools.islice((part.value for part in parts if part.number == _DIMENSION), 2)
    rows, columns = [*dimensions, 1, 1][:2]
    parts = protobuf.fields(data, tensor.start, tensor.end)
    values = b"".join(data[part.start : part.end] for part in parts if part.number == _RAW)
    if len(values) != rows * columns:
        return False
    return largest_pair(np.frombuffer(values, np.int8).reshape(rows, columns)) <= LARGEST_PAIR


def _kind_and_name(data: memoryview, tensor: protobuf.Field) -> tuple[int, str]:
    """The ONNX type and the name of a tensor, without storing its fields, as a hostile file may hold many."""
    kind, name = 0, "''"
    for part in protobuf.fields(data, tensor.start, tensor.end):
        if part.number == _TYPE:
            kind = part.value
        elif part.number == _NAME:
            name = reprlib.repr(protobuf.text(data, part))
    return kind, name


def _require_finite(data: memoryview, tensor: protobuf.Field) -> None:
    kind, name = _kind_and_name(data, tensor)
    if kind in _INTEGERS:
        return
    if kind not in _KINDS:
        raise ArtifactError(
            f"its weight {name} is of ONNX's type {kind}, expected float32, float16, bfloat16, float64 or integers"
        )
    for part in protobuf.fields(data, tensor.start, tensor.end):
        if part.number in _HOLDING[kind] and not _part_is_finite(data, part, kind):
            raise _not_finite("weight", name)


def _part_is_finite(data: memoryview, part: protobuf.Field, kind: int) -> bool:
    numbers = _KINDS[kind]
    if part.number == _VARINTS:
        assert isinstance(numbers, int)
        return all(not _is_set(_low_bits(block), numbers) for block in _varint_blocks(data, part))
    return all(_are_finite(block, numbers) for block in _blocks(data, part))


def _are_finite(block: memoryview, kind: str | int) -> bool:
    """Whether little-endian numbers are finite; `kind` is a numpy type, or the exponent mask of 16-bit numbers."""
    stored = np.dtype("<u2" if isinstance(kind, int) else kind)
    if len(block) % stored.itemsize:
        return False
    values = np.frombuffer(block, stored)
    return not _is_set(values, kind) if isinstance(kind, int) else bool(np.isfinite(values).all())


def _is_set(values: NDArray[np.unsignedinteger], exponent: int) -> bool:
    return bool((values & exponent == exponent).any())


def _blocks(data: memoryview, part: protobuf.Field) -> Iterator[memoryview]:
    for start in range(part.start, part.end, _BLOCK_BYTES):
        yield data[start : min(start + _BLOCK_BYTES, part.end)]


def _varint_blocks(data: memoryview, part: protobuf.Field) -> Iterator[memoryview]:
    """Blocks that end between two varints."""
    start = part.start
    while start < part.end:
        stop = min(start + _BLOCK_BYTES, part.end)
        while stop < part.end and data[stop - 1] >= 0x80:
            stop += 1
        yield data[start:stop]
        start = stop


def _low_bits(block: memoryview) -> NDArray[np.uint32]:
    """The lowest 16 bits of each varint: uint32 [varints], with up to 5 bits above."""
    packed = np.frombuffer(block, np.uint8)
    last = np.flatnonzero(packed < 0x80)
    first = np.concatenate([[0], last + 1])[:-1]
    values = np.zeros(len(last), np.uint32)
    for index in range(3):
        exists = first + index <= last
        bits = packed[first[exists] + index].astype(np.uint32)  # numpy 1 shifts bytes as bytes
        values[exists] |= (bits & 0x7F) << (7 * index)
    return values


def _not_finite(what: str, name: str) -> ArtifactError:
    return ArtifactError(
        f"its {what} {name} holds numbers that are not finite, so the network can compute nothing; "
        "train again with a lower learning_rate or clip_norm, and export that"
    )

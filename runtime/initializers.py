"""The weights in an ONNX file: each must be a finite number.

Read from the file's bytes, without onnx; the numbers are those of the fields in
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from collections.abc import Iterator

import numpy as np

from . import wire
from .errors import ArtifactError

_GRAPH, _INITIALIZER = 7, 5
_TYPE, _FLOATS, _NAME, _RAW = 2, 4, 8, 9
_KINDS = {1: "<f4", 10: "<f2", 11: "<f8"}
"""ONNX's number of a type -> the type, for those that have numbers which are not finite."""

_BLOCK_BYTES = 1 << 22


def require_finite(data: memoryview) -> None:
    """Check that every weight is a finite number.

    Raises:
        ArtifactError: One is NaN or infinite; the message names the tensor.
    """
    for graph in wire.fields(data):
        if graph.number == _GRAPH:
            for tensor in _initializers(data, graph):
                parts = {part.number: part for part in tensor}
                for held in tensor:
                    if held.number in (_RAW, _FLOATS):
                        _require_finite(data, parts, held)


def _initializers(data: memoryview, graph: wire.Field) -> Iterator[list[wire.Field]]:
    """The fields of each tensor."""
    for field in wire.fields(data, graph.start, graph.end):
        if field.number == _INITIALIZER:
            yield list(wire.fields(data, field.start, field.end))


def _require_finite(data: memoryview, parts: dict[int, wire.Field], held: wire.Field) -> None:
    kind = _KINDS.get(parts[_TYPE].value) if _TYPE in parts else None
    if kind is None:
        return
    for start in range(held.start, held.end, _BLOCK_BYTES):
        block = data[start : min(start + _BLOCK_BYTES, held.end)]
        if len(block) % np.dtype(kind).itemsize or not np.isfinite(np.frombuffer(block, kind)).all():
            name = wire.text(data, parts[_NAME]) if _NAME in parts else ""
            raise ArtifactError(
                f"its weight {name!r} holds numbers that are not finite, so the network can compute nothing; "
                "train again with a lower learning_rate or clip_norm, and export that"
            )

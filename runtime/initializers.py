"""The weights in an ONNX file: each must be a finite number.

Read from the file's bytes, without onnx; the numbers are those of the fields in
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import reprlib

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
            for field in wire.fields(data, graph.start, graph.end):
                if field.number == _INITIALIZER:
                    _require_finite(data, field)


def _require_finite(data: memoryview, tensor: wire.Field) -> None:
    """The parts are read twice and none is kept, as a hostile file may hold millions."""
    kind, name = None, ""
    for part in wire.fields(data, tensor.start, tensor.end):
        if part.number == _TYPE:
            kind = _KINDS.get(part.value)
        elif part.number == _NAME:
            name = wire.text(data, part)
    if kind is not None:
        for part in wire.fields(data, tensor.start, tensor.end):
            if part.number in (_RAW, _FLOATS):
                _require_finite_part(data, part, kind, name)


def _require_finite_part(data: memoryview, held: wire.Field, kind: str, name: str) -> None:
    for start in range(held.start, held.end, _BLOCK_BYTES):
        block = data[start : min(start + _BLOCK_BYTES, held.end)]
        if len(block) % np.dtype(kind).itemsize or not np.isfinite(np.frombuffer(block, kind)).all():
            raise ArtifactError(
                f"its weight {reprlib.repr(name)} holds numbers that are not finite, so the network can compute "
                "nothing; train again with a lower learning_rate or clip_norm, and export that"
            )

"""Rejects external data and content that expands beyond the file's size, anywhere in an ONNX file.

onnxruntime and onnx do not check this in every version and place, so an untrusted file is refused before they read it.
The field numbers are from https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from dataclasses import dataclass, field
from typing import final

from ..errors import ArtifactError
from . import protobuf

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR = "model", "graph", "node", "attribute", "tensor"
_VALUE, _TYPE, _NESTED_TYPE, _TENSOR_TYPE, _SHAPE = "value", "type", "nested type", "tensor type", "shape"
_ANNOTATION, _LEAF = "annotation", "leaf"
_WITHIN = {
    _MODEL: {7: _GRAPH, 8: _LEAF, 14: _LEAF},
    _GRAPH: {1: _NODE, 5: _TENSOR, 11: _VALUE, 12: _VALUE, 13: _VALUE, 14: _ANNOTATION, 16: _LEAF},
    _NODE: {5: _ATTRIBUTE, 9: _LEAF},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 14: _TYPE, 15: _TYPE},
    _TENSOR: {3: _LEAF, 16: _LEAF},
    _VALUE: {2: _TYPE, 4: _LEAF},
    _TYPE: {1: _TENSOR_TYPE, 4: _NESTED_TYPE, 5: _NESTED_TYPE, 7: _LEAF, 8: _TENSOR_TYPE, 9: _NESTED_TYPE},
    _NESTED_TYPE: {1: _TYPE, 2: _TYPE},
    _TENSOR_TYPE: {2: _SHAPE},
    _SHAPE: {1: _LEAF},
    _ANNOTATION: {2: _LEAF},
    _LEAF: {},
}
"""Message -> field number -> nested message. A leaf has no nested message."""

_ONCE = {
    (_MODEL, 7): "a model with two graphs",
    (_ATTRIBUTE, 5): "an attribute with two tensors",
    (_ATTRIBUTE, 6): "an attribute with two graphs",
}
"""Messages that readers merge where there are two."""

_OUTSIDE = "a weight lies outside the file; an artifact holds all of its weights"
_SPARSE = "it holds a sparse tensor, which takes more memory than the file; save its weights in full"
_FUNCTION = "it holds local functions, which take more room than the file when they are inlined; inline them"
_TRAINING = "it holds a training graph; an artifact holds a network to run"
_DEVICES = "it says which devices its nodes run on; the application that loads an artifact decides that"

_REFUSED = {
    (_MODEL, 20): _TRAINING,
    (_MODEL, 25): _FUNCTION,
    (_MODEL, 26): _DEVICES,
    (_GRAPH, 15): _SPARSE,
    (_NODE, 10): _DEVICES,
    (_ATTRIBUTE, 22): _SPARSE,
    (_ATTRIBUTE, 23): _SPARSE,
    (_TENSOR, 13): _OUTSIDE,
}
_TENSOR_LOCATION = (_TENSOR, 14)
"""0 where the tensor's data are in the file."""

_FLOATS = {(_ATTRIBUTE, 2), (_ATTRIBUTE, 7)}
_VARINTS = {(_TENSOR, 5), (_TENSOR, 7), (_TENSOR, 11), (_ATTRIBUTE, 8)}
"""Integers that take one byte in the file and up to eight in memory."""

_MOST_NODES = 10_000
"""In all graphs; a layer takes about ten. onnxruntime's time grows quadratically."""

_MOST_VARINT_BYTES = 1 << 23
_DEEPEST = 100
"""Nesting of messages; protobuf's limit."""

_ORT_FORMAT = b"ORTM"


@final
@dataclass(frozen=True)
class TensorSpans:
    """The positions of a file's numbers.

    Attributes:
        data: The file's bytes.
        tensors: Every tensor: initializers and attributes of all graphs.
        floats: Every run of float32 in an attribute.
    """

    data: memoryview
    tensors: list[protobuf.Field] = field(default_factory=list)
    floats: list[protobuf.Field] = field(default_factory=list)


def find_tensors(data: memoryview) -> TensorSpans:
    """Find the tensors of an ONNX file, and reject what `_REFUSED` lists and files of too many parts.

    Raises:
        ArtifactError: The file is rejected, or the bytes are not a protobuf message.
    """
    if data[4:8] == _ORT_FORMAT:
        raise ArtifactError("it is in onnxruntime's own format, which an artifact may not have; export it as ONNX")
    walk = _Walk(data)
    walk.enter(_MODEL, 0, len(data), 1)
    return walk.spans


@final
class _Walk:
    """One pass through a file, depth first."""

    def __init__(self, data: memoryview) -> None:
        self.spans = TensorSpans(data)
        self._fields = 0
        self._nodes = 0
        self._varint_bytes = 0

    def enter(self, message: str, start: int, end: int, depth: int) -> None:
        """Check the fields of a message and of its nested messages."""
        if depth > _DEEPEST:
            raise ArtifactError(f"its messages are nested more than {_DEEPEST} deep, expected a plain graph")
        within, seen = _WITHIN[message], set[int]()
        for part in protobuf.fields(self.spans.data, start, end):
            self._check(message, part)
            inner = within.get(part.number)
            if inner is None:
                continue
            if part.number in seen and (message, part.number) in _ONCE:
                raise ArtifactError(f"it holds {_ONCE[message, part.number]}, of which each has one")
            seen.add(part.number)
            self._count(inner, part)
            self.enter(inner, part.start, part.end, depth + 1)

    def _count(self, message: str, part: protobuf.Field) -> None:
        if message == _TENSOR:
            self.spans.tensors.append(part)
        if message == _NODE:
            self._nodes += 1
            if self._nodes > _MOST_NODES:
                raise ArtifactError(f"it has more than {_MOST_NODES:,} nodes, expected a few for each layer")

    def _check(self, message: str, part: protobuf.Field) -> None:
        key = (message, part.number)
        if key in _REFUSED:
            raise ArtifactError(_REFUSED[key])
        if key == _TENSOR_LOCATION and part.value != 0:
            raise ArtifactError(_OUTSIDE)
        self._fields += 1
        if self._fields > protobuf.MOST_FIELDS:
            raise protobuf.too_many()
        if key in _FLOATS:
            self.spans.floats.append(part)
        if key in _VARINTS:
            self._varint_bytes += part.end - part.start
            if self._varint_bytes > _MOST_VARINT_BYTES:
                raise ArtifactError(
                    f"it holds more than {_MOST_VARINT_BYTES:,} bytes of integers of variable length, which take more "
                    "memory than the file; save these tensors as raw_data"
                )

"""What no artifact may hold, wherever in the file it is: weights that lie outside it, or take more room than it.

onnxruntime and onnx have checks of their own, but not in every version and place. A file from a stranger is refused
before either of them sees it.
"""

from . import wire
from .errors import ArtifactError

_GRAPH, _NODE, _ATTRIBUTE, _TENSOR = "graph", "node", "attribute", "tensor"

_WITHIN = {
    "model": {7: _GRAPH},
    _GRAPH: {1: _NODE, 5: _TENSOR},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH},
    _TENSOR: {},
}
"""Message -> number of a field -> the message in it that is looked into."""

_OUTSIDE = "a weight lies outside the file; an artifact holds all of its weights"
_SPARSE = "it holds a sparse tensor, which takes more memory than the file; save its weights in full"
_FUNCTION = "it holds local functions, which take more room than the file when they are inlined; inline them"
_TRAINING = "it holds a training graph; an artifact holds a network to run"

_REFUSED = {
    "model": {20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {15: _SPARSE},
    _ATTRIBUTE: {22: _SPARSE, 23: _SPARSE},
    _TENSOR: {13: _OUTSIDE},
}
_TENSOR_LOCATION = 14
"""0 where the tensor's data are in the file."""


def require_contained(data: memoryview) -> None:
    """Check that an ONNX file holds all of its weights, in full, and no functions of its own.

    Raises:
        ArtifactError: It does not, or the bytes are no protobuf message.
    """
    waiting = [("model", 0, len(data))]
    while waiting:
        message, start, end = waiting.pop()
        refused, within = _REFUSED.get(message, {}), _WITHIN[message]
        for field in wire.fields(data, start, end):
            if field.number in refused:
                raise ArtifactError(refused[field.number])
            if message == _TENSOR and field.number == _TENSOR_LOCATION and field.value != 0:
                raise ArtifactError(_OUTSIDE)
            if field.number in within:
                waiting.append((within[field.number], field.start, field.end))

"""Small graphs without weights, for what onnxruntime computes faster than numpy; written without the package onnx.

The field numbers are from https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from ..artifact import protobuf
from ..artifact.artifact import LOGITS

TARGETS = "targets"
LOG_PROBS = "log_probs"
PROBABILITIES = "probabilities"
COUNT = "count"
BEST_LOGITS, BEST_IDS = "best_logits", "best_ids"

_FLOAT, _INT64 = 1, 7
_INT_ATTRIBUTE = 2
_IR_VERSION, _OPSET = 8, 17


def scoring_graph() -> bytes:
    """An ONNX model: logits float32 [batch, positions, vocabulary], targets int64 [batch, positions, 1] to float32."""
    axes = ("batch", "positions")
    return _model(
        "scoring",
        (1, _node("LogSoftmax", [LOGITS], ["all_log_probs"], axis=2)),
        (1, _node("GatherElements", ["all_log_probs", TARGETS], [LOG_PROBS], axis=2)),
        (11, _tensor(LOGITS, _FLOAT, *axes, "vocabulary")),
        (11, _tensor(TARGETS, _INT64, *axes, 1)),
        (12, _tensor(LOG_PROBS, _FLOAT, *axes, 1)),
    )


def softmax_graph() -> bytes:
    """An ONNX model: logits to probabilities, both float32 [rows, vocabulary]."""
    return _model("softmax", *_SOFTMAX)


def ranking_graph() -> bytes:
    """An ONNX model: as `softmax_graph`, and each row's `count` largest logits, ties by id; `count` is int64 [1]."""
    return _model(
        "ranking",
        *_SOFTMAX,
        (1, _node("TopK", [LOGITS, COUNT], [BEST_LOGITS, BEST_IDS], axis=1)),
        (11, _tensor(COUNT, _INT64, 1)),
        (12, _tensor(BEST_LOGITS, _FLOAT, "rows", "best")),
        (12, _tensor(BEST_IDS, _INT64, "rows", "best")),
    )


def _model(name: str, *parts: tuple[int, bytes]) -> bytes:
    graph = protobuf.message(*parts, (2, name))
    return protobuf.message((1, _IR_VERSION), (2, "lmtool"), (7, graph), (8, protobuf.message((1, ""), (2, _OPSET))))


def _node(operator: str, inputs: list[str], outputs: list[str], axis: int) -> bytes:
    attribute = protobuf.message((1, "axis"), (3, axis), (20, _INT_ATTRIBUTE))
    names = [*((1, name) for name in inputs), *((2, name) for name in outputs)]
    return protobuf.message(*names, (4, operator), (5, attribute))


def _tensor(name: str, kind: int, *sizes: str | int) -> bytes:
    axes = [protobuf.message((1, size) if isinstance(size, int) else (2, size)) for size in sizes]
    tensor = protobuf.message((1, kind), (2, protobuf.message(*((1, axis) for axis in axes))))
    return protobuf.message((1, name), (2, protobuf.message((1, tensor))))


_SOFTMAX = (
    (1, _node("Softmax", [LOGITS], [PROBABILITIES], axis=1)),
    (11, _tensor(LOGITS, _FLOAT, "rows", "vocabulary")),
    (12, _tensor(PROBABILITIES, _FLOAT, "rows", "vocabulary")),
)

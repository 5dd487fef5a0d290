"""A small ONNX graph without weights: logits and one token at each position in, the tokens' log-probabilities out."""

from . import wire
from .artifact import LOGITS

TARGETS = "targets"
LOG_PROBS = "log_probs"

_FLOAT, _INT64 = 1, 7
_INT_ATTRIBUTE = 2
_IR_VERSION, _OPSET = 8, 17


def scoring_graph() -> bytes:
    """The model: float32 [batch, positions, vocabulary] and int64 [batch, positions, 1] to float32 of the latter shape.

    The numbers are those of the fields in https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
    """
    graph = wire.message(
        (1, _node("LogSoftmax", [LOGITS], "all_log_probs")),
        (1, _node("GatherElements", ["all_log_probs", TARGETS], LOG_PROBS)),
        (2, "scoring"),
        (11, _tensor(LOGITS, _FLOAT, "vocabulary")),
        (11, _tensor(TARGETS, _INT64, 1)),
        (12, _tensor(LOG_PROBS, _FLOAT, 1)),
    )
    return wire.message((1, _IR_VERSION), (2, "lmtool"), (7, graph), (8, wire.message((1, ""), (2, _OPSET))))


def _node(operator: str, inputs: list[str], output: str) -> bytes:
    """A node along the last of three axes."""
    axis = wire.message((1, "axis"), (3, 2), (20, _INT_ATTRIBUTE))
    return wire.message(*((1, name) for name in inputs), (2, output), (4, operator), (5, axis))


def _tensor(name: str, kind: int, last: str | int) -> bytes:
    axes = [wire.message((1, size) if isinstance(size, int) else (2, size)) for size in ("batch", "positions", last)]
    tensor = wire.message((1, kind), (2, wire.message(*((1, axis) for axis in axes))))
    return wire.message((1, name), (2, wire.message((1, tensor))))

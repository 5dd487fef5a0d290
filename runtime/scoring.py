"""Log-probabilities of given tokens, computed inside the session, so that logits need not leave it.

A protobuf message followed by another one is the two merged: so the nodes that scoring needs are added to an artifact's
bytes by appending them, without the onnx package, and the file itself keeps to its contract. A run that does not fetch
`target_log_probs` does not compute it.
"""

from .artifact import LOGITS
from .wire import bytes_field, varint_field

TARGETS = "targets"
"""int64 [batch, kept, 1]: the token whose log-probability is wanted at each position."""

TARGET_LOG_PROBS = "target_log_probs"
"""float32 [batch, kept, 1]."""

_FLOAT, _INT64 = 1, 7
_INT_ATTRIBUTE = 2


def with_scoring(data: bytes) -> bytes:
    """An artifact's bytes with the optional input `targets` and the output `target_log_probs`."""
    graph = b"".join(
        [
            bytes_field(1, _node("LogSoftmax", [LOGITS], "log_probs", -1)),
            bytes_field(1, _node("GatherElements", ["log_probs", TARGETS], TARGET_LOG_PROBS, 2)),
            bytes_field(5, _no_targets()),
            bytes_field(11, _value(TARGETS, _INT64)),
            bytes_field(12, _value(TARGET_LOG_PROBS, _FLOAT)),
        ]
    )
    return data + bytes_field(7, graph)


def _node(operator: str, inputs: list[str], output: str, axis: int) -> bytes:
    attribute = bytes_field(1, "axis") + varint_field(3, axis % 2**64) + varint_field(20, _INT_ATTRIBUTE)
    names = b"".join(bytes_field(1, name) for name in inputs)
    return names + bytes_field(2, output) + bytes_field(4, operator) + bytes_field(5, attribute)


def _no_targets() -> bytes:
    """The default of `targets`, int64 [0, 0, 1]: a graph input with a default need not be fed."""
    dimensions = b"".join(varint_field(1, size) for size in (0, 0, 1))
    return dimensions + varint_field(2, _INT64) + bytes_field(8, TARGETS)


def _value(name: str, element_type: int) -> bytes:
    dimensions = b"".join(bytes_field(1, bytes_field(2, axis)) for axis in ("batch", "kept", "one"))
    tensor = varint_field(1, element_type) + bytes_field(2, dimensions)
    return bytes_field(1, name) + bytes_field(2, bytes_field(1, tensor))

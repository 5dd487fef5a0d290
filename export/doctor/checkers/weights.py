"""Finds weights that are computed or given at every call."""

from collections.abc import Iterator

from ..finding import Finding
from ..layer import Layer, at
from ..subject import Subject
from ..trials import Trials

_NAMES = {1: "W", 2: "R", 3: "B"}
_KEPT = ("Constant", "Identity", "DequantizeLinear")


def check(subject: Subject, trials: Trials) -> Iterator[Finding]:
    """One finding for each layer of the main graph; quantization and CUDA look at no other."""
    for layer in subject.layers:
        if layer.is_operator and layer.is_main and (wrong := computed_weights(subject, layer)):
            yield Finding(
                "weights-not-initializers",
                layer.label,
                f"{wrong}: quantization skips the layer, and CUDA reorders the weights at every call",
                "lmtool doctor --fix stores what is computed from constants; else export again (dynamo=False)",
            )


def computed_weights(subject: Subject, layer: Layer) -> str:
    """The weights of a layer that are no initializers, and how they are made; empty without any."""
    how = {name: _how(subject, at(layer.node.input, place)) for place, name in _NAMES.items()}
    return ", ".join(f"{name} {made}" for name, made in how.items() if made)


def _how(subject: Subject, name: str) -> str:
    """How a weight is made where it is no initializer; else empty."""
    lineage = subject.lineage
    while (node := lineage.producer(name)) is not None and node.op_type in _KEPT[1:]:
        name = node.input[0]
    if not name or name in lineage.constants or (node is not None and node.op_type == "Constant"):
        return ""
    if node is None:
        return f"is the input {name!r}"
    return f"is computed by {node.op_type}"

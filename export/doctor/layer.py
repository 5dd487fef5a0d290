"""The recurrent layers of a graph: nodes that carry a state from step to step, and cells that an exporter unrolled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import onnx
from onnx import helper

from .lineage import Lineage

OPERATORS = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
_INITIAL = {"hidden": 5, "cell": 6}
_FINAL = {"hidden": 1, "cell": 2}


@final
@dataclass(frozen=True)
class Slot:
    """One state of a layer.

    Attributes:
        name: `hidden`, `cell` or `state 0`.
        initial: The tensor that it begins with; empty where the layer begins with zeros.
        final: The tensor that holds it after the last step; empty where the layer does not give it.
        output: Place of `final` among the node's outputs.
    """

    name: str
    initial: str
    final: str
    output: int


@final
@dataclass(frozen=True, eq=False)
class Layer:
    """A recurrent node.

    Attributes:
        node: The node.
        label: Its operator and name, for messages.
        is_main: Whether it is in the main graph, not in one that is nested.
        slots: Its states.
    """

    node: onnx.NodeProto
    label: str
    is_main: bool
    slots: tuple[Slot, ...]

    @property
    def is_operator(self) -> bool:
        """Whether it is an LSTM, GRU or RNN; else it is a loop."""
        return self.node.op_type in OPERATORS

    @property
    def is_forward(self) -> bool:
        """Whether it reads the sequence from its first step to its last."""
        return bool(self.attribute("direction", b"forward") == b"forward")

    @property
    def layout(self) -> int:
        """1 where the batch is the first axis."""
        return int(self.attribute("layout", 0))

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute's value."""
        return next((helper.get_attribute_value(x) for x in self.node.attribute if x.name == name), default)


def find_layers(lineage: Lineage) -> list[Layer]:
    """The recurrent nodes, in the order of the graph."""
    layers: list[Layer] = []
    for node, is_main in lineage.nodes:
        if node.op_type in (*OPERATORS, "Scan", "Loop"):
            label = f"{node.op_type} {node.name!r}" if node.name else f"{node.op_type} number {len(layers)}"
            layers.append(Layer(node, label, is_main, tuple(_slots(node))))
    return layers


def count_unrolled_cells(lineage: Lineage) -> int:
    """The number of LSTM and GRU cells that are written out as products and sums.

    An LSTM cell ends with the product of a sigmoid and of the tanh of a sum of two products; a GRU cell with the sum of
    a new state, which is a tanh, and an old one by a gate, which is a sigmoid.
    """
    return sum(_ends_lstm(lineage, node) or _ends_gru(lineage, node) for node, _ in lineage.nodes)


def _slots(node: onnx.NodeProto) -> list[Slot]:
    if node.op_type in OPERATORS:
        names = ("hidden", "cell") if "LSTM" in node.op_type else ("hidden",)
        return [Slot(x, at(node.input, _INITIAL[x]), at(node.output, _FINAL[x]), _FINAL[x]) for x in names]
    if node.op_type == "Loop":
        carried = list(zip(node.input[2:], node.output, strict=False))
    else:
        scanned = next(helper.get_attribute_value(x) for x in node.attribute if x.name == "num_scan_inputs")
        carried = list(zip(node.input[: len(node.input) - scanned], node.output, strict=False))
    return [Slot(f"state {place}", *pair, place) for place, pair in enumerate(carried)]


def at(names: Sequence[str], place: int) -> str:
    """The name at a place; empty where the list ends before it."""
    return names[place] if place < len(names) else ""


def _ends_lstm(lineage: Lineage, node: onnx.NodeProto) -> bool:
    gates = _operands(lineage, node, "Mul")
    tanh = [gate for gate in gates if gate.op_type == "Tanh"]
    if len(tanh) != 1 or not any(gate.op_type == "Sigmoid" for gate in gates):
        return False
    total = lineage.producer(tanh[0].input[0])
    return total is not None and [part.op_type for part in _operands(lineage, total, "Add")] == ["Mul", "Mul"]


def _ends_gru(lineage: Lineage, node: onnx.NodeProto) -> bool:
    """Whether it is (1 - z) * n + z * h, or (h - n) * z + n, with the gate z and the new state n."""
    terms = _operands(lineage, node, "Add")
    products = [{gate.op_type for gate in _operands(lineage, term, "Mul")} for term in terms]
    gated = any("Sigmoid" in product and "Tanh" not in product for product in products)
    one_minus = {"Sub", "Tanh"} in products
    return gated and (one_minus or ({"Sigmoid", "Sub"} in products and any(term.op_type == "Tanh" for term in terms)))


def _operands(lineage: Lineage, node: onnx.NodeProto, operator: str) -> list[onnx.NodeProto]:
    """The nodes that compute the operands of a node of this operator."""
    if node.op_type != operator:
        return []
    return [found for name in node.input if (found := lineage.producer(name)) is not None]

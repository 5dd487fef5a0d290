"""Where a tensor of a graph comes from: constants, inputs, or a node behind others that only move numbers."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, final

import onnx

from ..foreign.foreign_model import nested_graphs

_SHAPES_ONLY = frozenset(["Shape", "Size"])
"""Operators that read no number of their input."""

_FIRST_INPUT = ["Cast", "Clip", "Dropout", "Expand", "Flatten", "Gather", "GatherElements", "Identity", "Reshape"]
_FIRST_INPUT += ["Slice", "Split", "SplitToSequence", "SequenceAt", "Squeeze", "Transpose", "Unsqueeze"]
_ALL_INPUTS = ["Add", "Concat", "Mul", "Sub", "Where"]
_MOVING = {name: slice(0, 1) for name in _FIRST_INPUT} | {name: slice(0, None) for name in _ALL_INPUTS}
"""Operators that pass a state on, as a reset or a stack of layers does -> the inputs that may hold it."""

_FIRST_CARRIED = {"Loop": 2, "Scan": 0}
"""Nodes with a body -> the first input that the body takes; a Loop's body takes its number and condition too."""


class Output(NamedTuple):
    """An output of a node."""

    node: onnx.NodeProto
    place: int


@final
class Lineage:
    """The producers of all tensors of a model, those of nested graphs included."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes: list[tuple[onnx.NodeProto, bool]] = []
        """Each node, and whether it is in the main graph."""
        self._producers: dict[str, Output] = {}
        self._actual: dict[str, str] = {}
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._sources: dict[str, tuple[set[str], set[tuple[int, int]]]] = {}
        initializers = {tensor.name for tensor in model.graph.initializer}
        declared = {value.name for value in model.graph.input}
        self.overridable = initializers & declared if model.ir_version >= 4 else set[str]()
        self.inputs = declared - initializers
        self.constants = initializers - self.overridable
        self._add(model.graph, is_main=True)

    def _add(self, graph: onnx.GraphProto, is_main: bool) -> None:
        if not is_main:
            self.constants.update(tensor.name for tensor in graph.initializer)
        self._tensors.update({tensor.name: tensor for tensor in graph.initializer})
        for node in graph.node:
            self.nodes.append((node, is_main))
            self._producers.update({name: Output(node, place) for place, name in enumerate(node.output) if name})
            for body in nested_graphs(node):
                first = _FIRST_CARRIED.get(node.op_type)
                if first is not None:
                    self._actual.update(
                        zip((value.name for value in body.input[first:]), node.input[first:], strict=False)
                    )
                self._add(body, is_main=False)

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that computes a tensor; None for inputs and initializers."""
        return self._producers[name].node if name in self._producers else None

    def tensor(self, name: str) -> onnx.TensorProto | None:
        """The value of an initializer or of a Constant; None for other tensors."""
        node = self.producer(name)
        if node is not None and node.op_type == "Identity":
            return self.tensor(node.input[0])
        if node is not None and node.op_type == "Constant":
            return next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
        return self._tensors.get(name)

    def is_constant(self, name: str) -> bool:
        """Whether no number of an input reaches it; its shape may."""
        return not self.inputs_behind(name)

    def inputs_behind(self, name: str) -> set[str]:
        """The inputs of the graph, or of a loop's turn, of which numbers reach it."""
        behind = self.tensors_behind(name)
        return {tensor for tensor in behind if tensor not in self._producers} - self.constants - self._actual.keys()

    def tensors_behind(self, name: str, *, shapes_too: bool = False) -> set[str]:
        """All tensors of which numbers, or at least shapes, reach it, and itself."""
        return set(_reached(name, lambda tensor: self._computed_from(tensor, shapes_too)))

    def _computed_from(self, name: str, shapes_too: bool) -> list[str]:
        output = self._producers.get(name)
        if output is None:
            return [self._actual[name]] if name in self._actual else []
        if output.node.op_type in _SHAPES_ONLY and not shapes_too:
            return []
        return [*output.node.input, *(value.name for body in nested_graphs(output.node) for value in body.output)]

    def sources(self, name: str) -> tuple[set[str], set[tuple[int, int]]]:
        """What a tensor holds unchanged, or reset, sliced, stacked or reshaped.

        Returns:
            The inputs of the graph, and the outputs of other nodes as the node's `id` and the output's place.
        """
        if name not in self._sources:
            self._sources[name] = self._find_sources(name)
        return self._sources[name]

    def _find_sources(self, name: str) -> tuple[set[str], set[tuple[int, int]]]:
        inputs, outputs = set[str](), set[tuple[int, int]]()
        for tensor in _reached(name, self._moved_from):
            output = self._producers.get(tensor)
            if output is None:
                inputs |= {tensor} & self.inputs
            elif output.node.op_type != "If" and output.node.op_type not in _MOVING:
                outputs.add((id(output.node), output.place))
        return inputs, outputs

    def _moved_from(self, name: str) -> list[str]:
        output = self._producers.get(name)
        if output is None:
            return []
        if output.node.op_type == "If":
            return [body.output[output.place].name for body in nested_graphs(output.node)]
        return list(output.node.input[_MOVING[output.node.op_type]]) if output.node.op_type in _MOVING else []


def _reached(name: str, before: Callable[[str], Iterable[str]]) -> Iterator[str]:
    """A tensor and, once each, all that lie before it."""
    seen, pending = set[str](), [name]
    while pending:
        current = pending.pop()
        if current and current not in seen:
            seen.add(current)
            yield current
            pending += before(current)

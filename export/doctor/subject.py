"""A recurrent ONNX file under examination: its graph, layers, states and axes, read without running it."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import final

import onnx
from onnx import TensorProto

from ...runtime.artifact.safety import find_tensors
from ...runtime.errors import ArtifactError, truncated
from ...runtime.session.contract import TensorType, Types
from ...runtime.stateful.onnx_file import read_onnx_file
from ...runtime.stateful.state_pairs import StatePair, may_follow, state_pairs, unpaired_states
from ..foreign.foreign_model import all_graphs, tensor_types
from .axes import TIME, Axes, Shape, find_axes
from .layer import Layer, Slot, count_unrolled_cells, find_layers
from .lineage import Lineage

_HALF = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
_SHOWN_CHARACTERS = 300


@final
class Subject:
    """A file and what its graph tells.

    Attributes:
        model: The parsed file.
        lineage: Producers of all tensors.
        layers: Recurrent nodes.
        cells: The number of unrolled cells, where there is no recurrent node.
        inputs: Name of each input without a default -> its type.
        outputs: Name of each output -> its type.
        named: The states that names pair.
        ambiguity: Why names pair no states, where they may be read in two ways; else empty.
        pairs: The states: as given, else as the layers carry them, else as named.
    """

    def __init__(self, model: onnx.ModelProto, states: Mapping[str, str] | None = None) -> None:
        """Use `read_subject`."""
        self.model = model
        self.lineage = Lineage(model)
        self.layers = find_layers(self.lineage)
        self.cells = 0 if self.layers else count_unrolled_cells(self.lineage)
        self.inputs = tensor_types(value for value in model.graph.input if value.name in self.lineage.inputs)
        self.outputs = tensor_types(model.graph.output)
        self.named, self.ambiguity = _named(self.inputs, self.outputs)
        self.pairs = self._pairs(states)

    @cached_property
    def axes(self) -> Axes:
        """Roles of the axes of inputs and outputs."""
        return find_axes(self.model, self.layers, self.inputs, self.outputs, self.pairs)

    def with_time(self, name: str, place: int) -> "Subject":
        """The same file, with an axis of an input taken as the time."""
        roles = list(self.axes.inputs[name])
        roles[place] = TIME
        return self.with_axes(name, tuple(roles), self.inputs[name].shape)

    def with_axes(self, name: str, roles: tuple[str, ...], shape: Shape | None) -> "Subject":
        """The same file, with these roles and this declaration of an input's axes."""
        twin = copy.copy(self)
        twin.axes = replace(self.axes, inputs={**self.axes.inputs, name: roles})
        twin.inputs = {**self.inputs, name: TensorType(self.inputs[name].dtype, shape)}
        return twin

    @property
    def uncarried(self) -> list[str]:
        """Inputs that the graph or a name calls states, and that no output follows."""
        named = unpaired_states(self.inputs, ())
        return [name for name in self.data_inputs if name in self.carried or name in named]

    @property
    def data_inputs(self) -> list[str]:
        """Inputs that are no states."""
        states = {pair.input for pair in self.pairs}
        return [name for name in self.inputs if name not in states]

    @cached_property
    def computes_in_half(self) -> bool:
        """Whether a number is in half precision: in a weight, in an input, or by a Cast."""
        casts = [node for node, _ in self.lineage.nodes if node.op_type == "Cast"]
        attributes = [attribute for cast in casts for attribute in cast.attribute]
        types = {attribute.i for attribute in attributes if attribute.name == "to"}
        types |= {tensor.data_type for tensor in all_tensors(self.model)}
        return not _HALF.isdisjoint(types) or "float16" in {kind.dtype for kind in self.inputs.values()}

    @property
    def opset(self) -> int:
        """Version of ONNX's own operators."""
        return max((entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")), default=0)

    def rank(self, name: str) -> int:
        """The number of axes of a tensor, 0 where it is not known."""
        return len(self.axes.shapes.get(name, ()))

    def state_inputs(self, slot: Slot) -> list[str]:
        """The inputs of the graph that a state begins with."""
        return sorted(self.lineage.sources(slot.initial)[0])

    def state_outputs(self, layer: Layer, slot: Slot) -> list[str]:
        """The outputs of the graph that hold a state after the call."""
        place = (id(layer.node), slot.output)
        return [name for name in self.outputs if place in self.lineage.sources(name)[1]]

    def is_lost(self, layer: Layer, slot: Slot) -> bool:
        """Whether neither an output nor another layer, as of the next step of an unrolled loop, takes a last state."""
        if not layer.is_operator:
            return not any(slot.final in self.lineage.tensors_behind(name) for name in self.outputs)
        place = (id(layer.node), slot.output)
        begins = [other.initial for following in self.layers for other in following.slots]
        return not self.state_outputs(layer, slot) and not any(place in self.lineage.sources(x)[1] for x in begins if x)

    def _pairs(self, states: Mapping[str, str] | None) -> tuple[StatePair, ...]:
        if states is not None:
            return state_pairs(self.inputs, self.outputs, states)
        carried = self.carried
        names = {pair.input: pair.output for pair in self.named} | carried
        followed = list(carried.values())
        return tuple(
            StatePair(name, names[name])
            for name in self.inputs
            if name in names and (name in carried or names[name] not in followed)
        )

    @cached_property
    def carried(self) -> dict[str, str]:
        """State inputs and the outputs that the layers carry them to, where type and shape allow to feed them back."""
        found: dict[str, str] = {}
        for layer in self.layers:
            for slot in layer.slots if layer.is_operator else ():
                for name, output in self.links(layer, slot):
                    if may_follow(self.outputs[output], self.inputs[name]):
                        found.setdefault(name, output)
        return found

    def links(self, layer: Layer, slot: Slot) -> list[tuple[str, str]]:
        """Each input that a state begins with, with each output that it ends in."""
        named = {pair.input: pair.output for pair in self.named}
        outputs = self.state_outputs(layer, slot)
        begins = self.state_inputs(slot)
        states = {*named, *unpaired_states(self.inputs, self.named)}
        return [
            (name, output)
            for name in [name for name in begins if name in states] or begins
            for output in sorted(outputs, key=lambda output: (named.get(name) != output, output))
        ]


def read_subject(path: Path, states: Mapping[str, str] | None = None) -> Subject:
    """Read a file.

    Args:
        path: An ONNX file.
        states: Input -> output, where neither the graph nor names tell.

    Raises:
        StorageError: It cannot be read.
        ArtifactError: It is no ONNX file, is too large or damaged, holds what no file from elsewhere may hold, or has
            nothing recurrent.
        OptionError: `states` does not fit the file.
    """
    data = read_onnx_file(path)
    try:
        model = _parsed(data)
        if has_weights_outside(model):
            find_tensors(memoryview(_without_locations(model)))
        else:
            find_tensors(memoryview(data))
            _require_valid(model)
        subject = Subject(model, states)
        _require_recurrent(subject)
    except ArtifactError as error:
        raise ArtifactError(f"{path} ({len(data):,} bytes) cannot be examined: {error}") from error
    return subject


def all_tensors(model: onnx.ModelProto) -> list[TensorProto]:
    """The initializers and the tensors of attributes of all graphs."""
    graphs = list(all_graphs(model))
    attributes = [attribute for graph in graphs for node in graph.node for attribute in node.attribute]
    single = [attribute.t for attribute in attributes if attribute.HasField("t")]
    listed = [tensor for attribute in attributes for tensor in attribute.tensors]
    return [*(tensor for graph in graphs for tensor in graph.initializer), *single, *listed]


def has_weights_outside(model: onnx.ModelProto) -> bool:
    """Whether a tensor is in another file."""
    return any(tensor.data_location == TensorProto.EXTERNAL for tensor in all_tensors(model))


def _parsed(data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own error
        raise ArtifactError(f"it is no ONNX file, or is truncated or damaged: {truncated(error)}") from error
    if not model.graph.node:
        raise ArtifactError("it is no ONNX file, or its graph has no node")
    _require_text(model)
    return model


def _require_text(model: onnx.ModelProto) -> None:
    """Raise ArtifactError for a name that is not UTF-8; protobuf then returns bytes, or raises an error."""
    try:
        for graph in all_graphs(model):
            values = [*graph.input, *graph.output, *graph.value_info]
            axes = [axis.dim_param for value in values for axis in value.type.tensor_type.shape.dim]
            named = [part.name for part in (*values, *graph.initializer, *graph.node)]
            operators = [text for node in graph.node for text in (node.op_type, node.domain)]
            tensors = [name for node in graph.node for name in (*node.input, *node.output)]
            attributes = [attribute.name for node in graph.node for attribute in node.attribute]
            for text in (*axes, *named, *operators, *tensors, *attributes):
                if not isinstance(text, str):
                    raise ArtifactError(f"it holds a name that is not UTF-8: {text!r}")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"it holds a name that is not UTF-8: {error}") from error


def _without_locations(model: onnx.ModelProto) -> bytes:
    """The file as if its weights were inside and empty, so that the rest of it can be checked."""
    emptied = onnx.ModelProto()
    emptied.CopyFrom(model)
    for tensor in all_tensors(emptied):
        tensor.ClearField("data_location")
        del tensor.external_data[:]
    data: bytes = emptied.SerializeToString()
    return data


def _require_valid(model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # of several kinds
        raise ArtifactError(f"onnx's checker refuses it: {truncated(' '.join(str(error).split()))}") from error


def _require_recurrent(subject: Subject) -> None:
    if subject.layers or subject.cells or subject.pairs or unpaired_states(subject.inputs, subject.pairs):
        return
    operators = ", ".join(sorted({node.op_type for node, _ in subject.lineage.nodes}))
    raise ArtifactError(
        "it has nothing recurrent: no LSTM, GRU, RNN, Scan or Loop, no cell that is written out, and no input named as "
        f"a state (its operators: {truncated(operators, _SHOWN_CHARACTERS)})"
    )


def _named(inputs: Types, outputs: Types) -> tuple[tuple[StatePair, ...], str]:
    try:
        return state_pairs(inputs, outputs), ""
    except ArtifactError as error:
        return (), str(error)

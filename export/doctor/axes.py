"""Which axes of inputs and outputs are the batch and the time, found by following their symbols to the layers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import onnx
from onnx import shape_inference

from ...runtime.session.contract import Types
from ...runtime.stateful.state_pairs import StatePair
from ..foreign.foreign_model import nested_graphs
from .layer import Layer

BATCH, TIME, OTHER = "batch", "time", ""
_BATCH_NAME = re.compile(r"bs|.*batch.*", re.I)
_TIME_NAME = re.compile(r"t|.*(time|seq|step|frame|length).*", re.I)
_SYMBOL = re.compile(r"axis (\d+) of (.*)", re.S)

Shape = tuple[int | str, ...]
Roles = dict[str, tuple[str, ...]]
"""Name of each input or output -> `batch`, `time` or nothing for each axis."""


@final
@dataclass(frozen=True)
class LayerSizes:
    """What a layer reads as time and batch: a number that the graph fixes, the name of an axis, or nothing known."""

    layer: Layer
    time: int | str | None
    batch: int | str | None


@final
@dataclass(frozen=True)
class Axes:
    """The roles of axes.

    Attributes:
        inputs: Of inputs.
        outputs: Of outputs.
        layers: What each layer reads.
        shapes: Of all tensors as far as they follow from the graph.
        confused: Inputs whose axis is named as the batch, but is read as the time: the layer and the input.
    """

    inputs: Roles
    outputs: Roles
    layers: Sequence[LayerSizes]
    shapes: Mapping[str, Shape]
    confused: Sequence[tuple[Layer, str]]

    @property
    def is_time_traced(self) -> bool:
        """Whether a layer reads the axis of an input as its time; else the time is known by its name alone."""
        return any(isinstance(size.time, str) and _SYMBOL.fullmatch(size.time) for size in self.layers)

    def has(self, role: str, names: Sequence[str]) -> bool:
        """Whether one of these inputs has an axis of this role."""
        return any(role in self.inputs[name] for name in names)


def find_axes(
    model: onnx.ModelProto, layers: Sequence[Layer], inputs: Types, outputs: Types, pairs: Sequence[StatePair]
) -> Axes:
    """The roles of all axes, from the layers, then from equal names, then from the usual places in states."""
    shapes = _symbolic_shapes(model, inputs)
    sizes = [size for layer in layers if (size := _layer_sizes(layer, shapes)) is not None]
    roles = {name: [OTHER] * len(kind.shape or ()) for name, kind in inputs.items()}
    for role, value in ((r, getattr(size, r)) for size in sizes for r in (BATCH, TIME)):
        for name, place in _axis_of(value):
            roles[name][place] = role
    for layer in layers:
        for name, place in _batch_of_states(layer, shapes):
            roles[name][place] = BATCH
    confused = [
        (size.layer, name)
        for size in sizes
        for name, place in _axis_of(size.time)
        if _is_named(inputs, name, place) and not any(_is_named(inputs, *axis) for axis in _axis_of(size.batch))
    ]
    _complete(roles, inputs, [pair.input for pair in pairs], loops=any(not layer.is_operator for layer in layers))
    found = {name: tuple(places) for name, places in roles.items()}
    return Axes(found, _output_roles(found, inputs, outputs, shapes), sizes, shapes, confused)


def _complete(roles: dict[str, list[str]], inputs: Types, states: Sequence[str], *, loops: bool) -> None:
    """Fill in what the layers do not tell."""
    for name in states:
        if BATCH not in roles[name] and len(roles[name]) in (2, 3, 4):
            roles[name][0 if len(roles[name]) == 2 else 1] = BATCH
    names = {axis for _, _, axis, role in _each(roles, inputs) if role == BATCH and isinstance(axis, str) and axis}
    for name, place, axis, role in list(_each(roles, inputs)):
        if role == OTHER and BATCH not in roles[name] and (axis in names or _matches(_BATCH_NAME, axis)):
            roles[name][place] = BATCH
        if loops and role == OTHER and name not in states and _matches(_TIME_NAME, axis):
            roles[name][place] = TIME
    sizes = {axis for name, _, axis, role in _each(roles, inputs) if role == BATCH and name in states}
    for name, kind in inputs.items():
        data = name not in states and len(kind.shape or ()) > 1
        if data and BATCH not in roles[name] and roles[name][0] == OTHER and (kind.shape or ("",))[0] in sizes:
            roles[name][0] = BATCH  # both are a number, or both have no name


def _each(roles: Mapping[str, Sequence[str]], inputs: Types) -> Iterator[tuple[str, int, int | str, str]]:
    """Input, place, declared axis and role of every axis."""
    for name, places in roles.items():
        for place, (axis, role) in enumerate(zip(inputs[name].shape or (), places, strict=True)):
            yield name, place, axis, role


def _is_named(inputs: Types, name: str, place: int) -> bool:
    """Whether an axis has the name of a batch."""
    return _matches(_BATCH_NAME, (inputs[name].shape or ())[place])


def _matches(pattern: re.Pattern[str], axis: int | str) -> bool:
    return isinstance(axis, str) and pattern.fullmatch(axis) is not None


def _layer_sizes(layer: Layer, shapes: Mapping[str, Shape]) -> LayerSizes | None:
    if layer.is_operator:
        shape = shapes.get(layer.node.input[0], ())
        time, batch = (1, 0) if layer.layout else (0, 1)
        return LayerSizes(layer, shape[time], shape[batch]) if len(shape) == 3 else LayerSizes(layer, None, None)
    if layer.node.op_type == "Scan":
        count = int(layer.attribute("num_scan_inputs", 1))
        axes = layer.attribute("scan_input_axes", [0] * count)
        shape = shapes.get(layer.node.input[-count], ())
        return LayerSizes(layer, shape[axes[0]] if shape else None, None)
    return None


def _batch_of_states(layer: Layer, shapes: Mapping[str, Shape]) -> Iterator[tuple[str, int]]:
    if layer.is_operator:
        for slot in layer.slots:
            shape = shapes.get(slot.initial, ())
            if len(shape) == 3:
                yield from _axis_of(shape[0 if layer.layout else 1])


def _axis_of(size: int | str | None) -> Iterator[tuple[str, int]]:
    """The input and place that a symbol stands for."""
    if isinstance(size, str) and (match := _SYMBOL.fullmatch(size)):
        yield match[2], int(match[1])


def _output_roles(inputs: Roles, declared: Types, outputs: Types, shapes: Mapping[str, Shape]) -> Roles:
    named = {axis: role for _, _, axis, role in _each(inputs, declared) if role and isinstance(axis, str) and axis}
    roles = {}
    for name, kind in outputs.items():
        found = []
        for place, axis in enumerate(kind.shape or ()):
            inferred = shapes.get(name, ())
            symbol = inferred[place] if len(inferred) == len(kind.shape or ()) else None
            role = next((inputs[source][at] for source, at in _axis_of(symbol)), OTHER)
            found.append(role or (named.get(axis, OTHER) if isinstance(axis, str) else OTHER))
        roles[name] = tuple(found)
    return roles


def _symbolic_shapes(model: onnx.ModelProto, inputs: Types) -> dict[str, Shape]:
    """The shapes of all tensors if every axis of every input is a symbol."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _forget_shapes(copy.graph)
    for value in copy.graph.input:
        for place, axis in enumerate(value.type.tensor_type.shape.dim if value.name in inputs else ()):
            axis.dim_param = f"axis {place} of {value.name}"
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = shape_inference.infer_shapes(copy, data_prop=True)
    except Exception:  # of several kinds; the roles then follow from names
        return {}
    shapes: dict[str, Shape] = {}
    _collect(inferred.graph, shapes)
    return shapes


def _forget_shapes(graph: onnx.GraphProto) -> None:
    del graph.value_info[:]
    for node in graph.node:
        for body in nested_graphs(node):
            _forget_shapes(body)


def _collect(graph: onnx.GraphProto, shapes: dict[str, Shape]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.HasField("shape"):
            shapes[value.name] = tuple(
                axis.dim_value if axis.HasField("dim_value") else axis.dim_param
                for axis in value.type.tensor_type.shape.dim
            )
    for node in graph.node:
        for body in nested_graphs(node):
            _collect(body, shapes)

"""Adds state inputs and outputs to recurrent layers."""

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper

from ....runtime.artifact.artifact import NEXT
from ..axes import BATCH
from ..layer import Layer, Slot, at
from ..subject import Subject
from ..trials import declared_sizes
from .names import rename

_INITIAL_PLACE = {"hidden": 5, "cell": 6}


def apply(model: onnx.ModelProto) -> Iterator[str]:
    """Give each forward layer of the main graph an input and an output for each state that lacks one.

    The states are [1, batch, hidden size], and named `hidden_K` and `cell_K`, K the number of the layer.
    """
    subject = Subject(model)
    layers = [layer for layer in subject.layers if layer.is_operator]
    for number, layer in enumerate(layers):
        has_lengths = bool(at(layer.node.input, 4))  # packed rows are in an order of their own
        if layer.is_main and layer.is_forward and not layer.layout and not has_lengths:
            for slot in layer.slots:
                yield from _carry(model, subject, layer, slot, number)


def _carry(model: onnx.ModelProto, subject: Subject, layer: Layer, slot: Slot, number: int) -> Iterator[str]:
    begins = subject.state_inputs(slot)
    lacks_input = not slot.initial or subject.lineage.is_constant(slot.initial)
    if lacks_input:
        name = _free(model, f"{slot.name}_{number}")
        _fill(layer.node.input, _INITIAL_PLACE[slot.name], name)
        model.graph.input.append(_value(subject, layer, name))
        yield f"{layer.label}: the input {name!r} begins the {slot.name} state"
    elif slot.initial in begins:
        name = slot.initial
    else:
        return  # a stack of states, which only its exporter can complete
    if lacks_input or subject.is_lost(layer, slot):
        yield from _end(model, subject, layer, slot, name)


def _end(model: onnx.ModelProto, subject: Subject, layer: Layer, slot: Slot, name: str) -> Iterator[str]:
    """Let the output `next_NAME` hold the state after the call."""
    after, declared = f"{NEXT}{name}", {value.name for value in model.graph.output}
    if slot.final in declared:
        rename(model, slot.final, after)
        yield f"{layer.label}: the output {slot.final!r} is named {after!r}"
        return
    if slot.final:
        rename(model, slot.final, after)
    else:
        _fill(layer.node.output, slot.output, after)
    model.graph.output.append(_value(subject, layer, after))
    yield f"{layer.label}: the output {after!r} holds the {slot.name} state after the call"


def _value(subject: Subject, layer: Layer, name: str) -> onnx.ValueInfoProto:
    weights = subject.lineage.tensor(layer.node.input[2])
    kind = TensorProto.FLOAT if weights is None else weights.data_type
    return helper.make_tensor_value_info(name, kind, [1, _batch(subject), layer.attribute("hidden_size", "hidden")])


def _batch(subject: Subject) -> int | str:
    """The batch as the data declare it."""
    sizes = declared_sizes(subject, BATCH).values()
    return next((size for size in sizes if size), BATCH)


def _free(model: onnx.ModelProto, name: str) -> str:
    """The name, with a mark where another tensor has it."""
    taken = {value.name for value in (*model.graph.input, *model.graph.output)}
    taken |= {output for node in model.graph.node for output in node.output}
    while name in taken or f"{NEXT}{name}" in taken:
        name = f"layer_{name}"
    return name


def _fill(names: "list[str]", place: int, name: str) -> None:
    """Set a name in a list that may end before its place."""
    while len(names) <= place:
        names.append("")
    names[place] = name

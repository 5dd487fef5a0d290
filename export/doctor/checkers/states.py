"""Which layers lack a state input or output, and whether a file has all of its states."""

from collections.abc import Callable, Iterator

from ....runtime.stateful.state_pairs import unpaired_states
from ..layer import Layer, Slot
from ..subject import Subject

_STATE_RANK = 2

Layers = Iterator[tuple[Layer, list[Slot]]]
"""Layers with states that they lack."""


def without_input(subject: Subject) -> Layers:
    """States that begin with zeros, as nothing is given."""
    return _lacking(subject, lambda _, slot: not slot.initial)


def with_constant_input(subject: Subject) -> Layers:
    """States that begin with a constant."""
    return _lacking(subject, lambda _, slot: bool(slot.initial) and subject.lineage.is_constant(slot.initial))


def without_output(subject: Subject) -> Layers:
    """States that are lost after the call."""
    return _lacking(subject, subject.is_lost)


def has_all_states(subject: Subject) -> bool:
    """Whether every state goes in and comes out."""
    lacking = (next(find(subject), None) for find in (without_input, with_constant_input, without_output))
    return bool(subject.pairs) and not any(lacking) and not unpaired_states(subject.inputs, subject.pairs)


def has_cells_alone(subject: Subject) -> bool:
    """Whether cells are written out, and nothing that goes in or comes out is their state."""
    return bool(subject.cells) and not subject.pairs and not unpaired_states(subject.inputs, ())


def _lacking(subject: Subject, is_missing: Callable[[Layer, Slot], bool]) -> Layers:
    """Layers with the states of which `is_missing` says so.

    A layer that reads backwards has no state to carry. One in a branch is an alternative of another one, as where a
    network begins without a state, so it lacks nothing if the file has states.
    """
    for layer in subject.layers:
        if layer.is_forward and (layer.is_main or not subject.pairs):
            slots = [slot for slot in layer.slots if _is_state(subject, layer, slot) and is_missing(layer, slot)]
            if slots:
                yield layer, slots


def _is_state(subject: Subject, layer: Layer, slot: Slot) -> bool:
    """Whether a slot carries a state; a loop carries counters and sums too."""
    return layer.is_operator or layer.node.op_type == "Scan" or subject.rank(slot.initial) >= _STATE_RANK

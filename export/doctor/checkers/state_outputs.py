"""Finds layers that keep their last state to themselves."""

from collections.abc import Iterator

from ..finding import Finding
from ..subject import Subject
from ..trials import Trials
from .states import has_cells_alone, without_output


def check(subject: Subject, trials: Trials) -> Iterator[Finding]:
    """One finding for each layer."""
    for layer, slots in without_output(subject):
        yield Finding(
            "no-state-output",
            layer.label,
            f"no output holds the last {' and '.join(slot.name for slot in slots)} state, so none can be carried on",
            "lmtool doctor --fix adds outputs; or return the state of the layer and name it in output_names",
        )
    if has_cells_alone(subject):
        yield Finding(
            "no-state-output",
            f"{subject.cells} cells that are written out",
            "no output is named as a state that can be carried on",
            "return the state, name it in output_names and export again",
        )

"""Finds layers that begin every call with zeros."""

from collections.abc import Iterator

from ..finding import Finding
from ..subject import Subject
from ..trials import Trials
from .states import has_cells_alone, without_input


def check(subject: Subject, trials: Trials) -> Iterator[Finding]:
    """One finding for each layer."""
    for layer, slots in without_input(subject):
        names = " and ".join(slot.name for slot in slots)
        yield Finding(
            "no-state-input",
            layer.label,
            f"no initial {names} state: every call begins with zeros, so a stream forgets what came before",
            "lmtool doctor --fix adds inputs; or pass the state to the layer and name it in input_names",
        )
    if has_cells_alone(subject):
        yield Finding(
            "no-state-input",
            f"{subject.cells} cells that are written out",
            "no input begins the state: every call begins with the same one, so a stream forgets what came before",
            "pass the state to the network, name it in input_names and export again",
        )

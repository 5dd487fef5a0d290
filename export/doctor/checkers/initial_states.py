"""Finds layers that begin every call with the same state."""

from collections.abc import Iterator

from ..finding import Finding
from ..subject import Subject
from ..trials import Trials
from .states import with_constant_input


def check(subject: Subject, trials: Trials) -> Iterator[Finding]:
    """One finding for each layer."""
    for layer, slots in with_constant_input(subject):
        yield Finding(
            "constant-initial-state",
            layer.label,
            f"the initial {' and '.join(slot.name for slot in slots)} state is a constant: every call begins with it, "
            "so a stream forgets what came before",
            "lmtool doctor --fix makes it an input; or pass the state to the layer and name it in input_names",
        )

"""Declares as free what the graph runs in any size."""

from collections.abc import Iterator

import onnx

from ..axes import BATCH, TIME
from ..checkers.sizes import refusal_of
from ..subject import Subject
from ..trials import Trials, declare_free


def apply(model: onnx.ModelProto) -> Iterator[str]:
    """Give batch and time of inputs and outputs a name in place of a number, where other sizes run."""
    subject = Subject(model)
    trials = Trials(subject)
    for role in (BATCH, TIME):
        if trials.base is not None and refusal_of(trials, role) is None:
            for name in declare_free(model, subject, (role,)):
                yield f"the {role} of {name!r} is declared as free"

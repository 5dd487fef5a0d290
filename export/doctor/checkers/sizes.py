"""Whether a batch or time runs in other sizes than the declared one."""

from collections.abc import Iterator

from ..axes import BATCH
from ..finding import Finding
from ..subject import Subject
from ..trials import Sizes, Trials

_DECLARE = "lmtool doctor --fix declares it as free, as the graph runs other sizes"


def refused_size(trials: Trials, role: str) -> str | None:
    """How a free axis turns out to be fixed; None where other sizes run or nothing runs."""
    if trials.base is None:
        return None
    if getattr(trials.base, role) != getattr(trials.first, role):
        return f"{trials.first} does not run, and {trials.base} does: {trials.error(trials.first)}"
    return refusal_of(trials, role)


def why_fixed(trials: Trials, role: str, export: str) -> tuple[str, str]:
    """What to add to the problem of a declared size, and its fix."""
    if trials.base is None:
        return "", export
    refusal = refusal_of(trials, role)
    if refusal:
        return f", and {refusal}", export
    return " by its declaration alone: runtimes refuse any other", _DECLARE


def fixed_outputs(subject: Subject, role: str, kind: str) -> Iterator[Finding]:
    """Outputs that declare a number where their inputs have a free axis."""
    for name, roles in subject.axes.outputs.items():
        for axis, found in zip(subject.outputs[name].shape or (), roles, strict=True):
            if found == role and isinstance(axis, int):
                yield Finding(
                    kind,
                    f"output {name!r}",
                    f"it declares a {role} of {axis}, though the inputs have any: runtimes warn, or plan for {axis}",
                    "lmtool doctor --fix declares it as free",
                )


def refusal_of(trials: Trials, role: str) -> str | None:
    """What goes wrong at other sizes than the base ones."""
    for sizes in trials.at_other_sizes(role):
        if (error := trials.error(sizes)) is not None:
            return f"{role} {getattr(sizes, role)} does not run: {error}"
        before, after = (_shapes(trials, x) for x in (trials.base, sizes))
        if role == BATCH and before == after:
            return f"{role} {getattr(sizes, role)} gives outputs of the shapes of {trials.base}"
        if list(map(len, before)) != list(map(len, after)):
            return f"{role} {getattr(sizes, role)} gives outputs with another number of axes"
    return None


def _shapes(trials: Trials, sizes: Sizes | None) -> list[tuple[int, ...]]:
    """The shapes of all outputs."""
    assert sizes is not None
    return [array.shape for array in trials.outputs(sizes).values()]

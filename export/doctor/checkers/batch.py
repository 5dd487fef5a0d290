"""Finds a batch that is baked in, by declaration and by running other sizes."""

from collections.abc import Iterator

from ..axes import BATCH
from ..finding import Finding
from ..subject import Subject
from ..trials import Trials, declared_sizes
from .sizes import fixed_outputs, refused_size, why_fixed

_EXPORT = "export again with a dynamic batch (dynamic_axes or dynamic_shapes), and without its number in the code"


def check(subject: Subject, trials: Trials) -> Iterator[Finding]:
    """One finding for each input, output or layer; none where the data have no batch, as in a network of one stream."""
    fixed = {name: size for (name, _), size in declared_sizes(subject, BATCH).items() if isinstance(size, int)}
    if not subject.axes.has(BATCH, subject.data_inputs):
        yield from _fixed_layers(subject)
        return
    if fixed:
        size = next(iter(fixed.values()))
        reason, fix = why_fixed(trials, BATCH, _EXPORT)
        names = ", ".join(map(repr, fixed))
        yield Finding("baked-batch", f"inputs {names}", f"the batch is {size}{reason}", fix)
    elif (refused := refused_size(trials, BATCH)) is not None:
        yield Finding("baked-batch", "the graph", f"the batch is declared as free, but {refused}", _EXPORT)
    else:
        yield from fixed_outputs(subject, BATCH, "baked-batch")


def _fixed_layers(subject: Subject) -> Iterator[Finding]:
    for sizes in subject.axes.layers:
        if isinstance(sizes.batch, int) and sizes.batch > 1:
            problem = f"it reads a batch of {sizes.batch}, whatever the inputs are"
            yield Finding("baked-batch", sizes.layer.label, problem, _EXPORT)

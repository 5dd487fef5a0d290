"""Finds a time that is baked in, by declaration and by running other sizes."""

import itertools
from collections import Counter
from collections.abc import Iterator

import onnx

from ..axes import TIME
from ..finding import Finding
from ..subject import Subject
from ..trials import Trials, declared_sizes
from .sizes import fixed_outputs, refused_size, why_fixed

_EXPORT = "export again with a dynamic time (dynamic_axes; of PyTorch's exporters dynamo=False keeps it)"


def check(subject: Subject, trials: Trials) -> Iterator[Finding]:
    """One finding for each input, output or layer; none for a network that reads one step a call and has states."""
    sizes = declared_sizes(subject, TIME)
    fixed = {name: size for (name, _), size in sizes.items() if isinstance(size, int)}
    if any(size != 1 for size in fixed.values()) or (fixed and not subject.pairs):
        size = next(iter(fixed.values()))
        reason, fix = why_fixed(trials, TIME, _EXPORT)
        names = ", ".join(map(repr, fixed))
        yield Finding("baked-time", f"inputs {names}", f"the time is {size}{reason}", fix)
    elif subject.axes.is_time_traced and not fixed and (refused := refused_size(trials, TIME)) is not None:
        yield Finding("baked-time", "the graph", f"the time is declared as free, but {refused}", _EXPORT)
    elif sizes and not fixed:
        yield from fixed_outputs(subject, TIME, "baked-time")
    else:
        yield from _fixed_layers(subject)
    yield from _unrolled(subject)


def _fixed_layers(subject: Subject) -> Iterator[Finding]:
    for sizes in subject.axes.layers:
        if isinstance(sizes.time, int) and sizes.time > 1:
            problem = f"it reads {sizes.time} steps, whatever the inputs are"
            yield Finding("baked-time", sizes.layer.label, problem, _EXPORT)


def _unrolled(subject: Subject) -> Iterator[Finding]:
    """Layers or products by the same weights that are repeated for each step of an input."""
    steps = _repeated_layers(subject) if subject.layers else _repeated_products(subject)
    if steps > 1:
        yield Finding(
            "baked-time",
            f"{len(subject.layers)} recurrent nodes" if subject.layers else f"{subject.cells or steps} unrolled cells",
            f"{steps} steps are written out one by one: no other length runs, or later steps are left out",
            "export a recurrent layer (nn.LSTM, not a loop over nn.LSTMCell), or one step with its state",
        )


def _repeated_layers(subject: Subject) -> int:
    """In how many nodes that read one step each the same recurrent weights are."""
    single = [sizes.layer for sizes in subject.axes.layers if sizes.time == 1 and sizes.layer.is_main]
    return max(Counter(layer.node.input[2] for layer in single if layer.is_operator).values(), default=0)


def _repeated_products(subject: Subject) -> int:
    """The largest number of products by the same weights of which each depends on the one before."""
    products: dict[str, list[onnx.NodeProto]] = {}
    for node, _ in subject.lineage.nodes:
        if node.op_type in ("MatMul", "Gemm") and subject.lineage.tensor(node.input[1]) is not None:
            products.setdefault(node.input[1], []).append(node)
    return max((_chain(subject, nodes) for nodes in products.values()), default=0)


def _chain(subject: Subject, nodes: list[onnx.NodeProto]) -> int:
    pairs = itertools.pairwise(nodes)
    return 1 + sum(one.output[0] in subject.lineage.tensors_behind(other.input[0]) for one, other in pairs)

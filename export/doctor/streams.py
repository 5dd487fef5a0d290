"""Runs a whole sequence, and the same sequence step by step with the paired states, and compares the outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .axes import TIME
from .checkers.states import has_all_states
from .runtimes import RefusedError
from .subject import Subject
from .trials import Outputs, Sizes, Trials

_SMALLEST = 1e-6
_QUANTIZED = ("QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulNBits")
"""Operators that round activations to few bits."""

_TOLERANCES = {"full": 1e-4, "half": 2e-2, "quantized": 1e-1}


@final
@dataclass(frozen=True)
class Difference:
    """An output of a whole sequence beside that of its steps.

    Attributes:
        output: The output's name.
        largest: Largest difference of two numbers; infinite where shapes do not match.
        allowed: What rounding may make of it.
        step: The first step that differs by more than that, from 0; the last one for outputs without a time.
        error: Why a step does not run; else empty.
    """

    output: str
    largest: float
    allowed: float
    step: int
    error: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether it is larger than rounding."""
        return not self.largest <= self.allowed


def stream(subject: Subject, trials: Trials) -> list[Difference]:
    """The differences of all outputs, states included; none where there is nothing to compare."""
    sizes = _sizes(subject, trials)
    if sizes is None:
        return []
    whole = trials.outputs(sizes)
    try:
        steps = _steps(subject, trials, sizes)
    except RefusedError as error:
        return [Difference(pair.output, np.inf, 0.0, 0, str(error)) for pair in subject.pairs]
    tolerance = rounding_tolerance(subject)
    return [_difference(output, whole[output], [step[output] for step in steps], tolerance) for output in whole]


def rounding_tolerance(subject: Subject) -> float:
    """The largest difference, relative to the largest number of an output, that rounding explains."""
    if any(node.op_type in _QUANTIZED for node, _ in subject.lineage.nodes):
        return _TOLERANCES["quantized"]
    return _TOLERANCES["half" if subject.computes_in_half else "full"]


def compare_runtimes(trials: Trials) -> Iterator[str]:
    """How the outputs of other runtimes differ from the first one's, one sentence each."""
    assert trials.base is not None
    first, *others = trials.runs
    expected = trials.outputs(trials.base, first)
    for name in others:
        try:
            found = trials.outputs(trials.base, name)
        except RefusedError as error:
            yield f"{name} does not run it at {trials.base}: {error}"
            continue
        same = [found[output].shape == expected[output].shape for output in expected]
        largest = max(_largest(found[output], expected[output]) for output in expected) if all(same) else np.inf
        yield f"{name} differs from {first} by up to {largest:.1g} at {trials.base}"


def _sizes(subject: Subject, trials: Trials) -> Sizes | None:
    """The sizes of the whole sequence; None where there is nothing to compare."""
    forward = all(layer.is_forward for layer in subject.layers)
    if not (trials.base and forward and has_all_states(subject) and subject.axes.has(TIME, subject.data_inputs)):
        return None
    whole = trials.base if trials.base.time > 1 else replace(trials.base, time=4)
    step = replace(trials.base, time=1)
    return whole if trials.error(whole) is None and trials.error(step) is None else None


def _steps(subject: Subject, trials: Trials, sizes: Sizes) -> list[Outputs]:
    whole, step = trials.feed(sizes), trials.feed(replace(sizes, time=1))
    states = {pair.input: whole[pair.input] for pair in subject.pairs}
    timed = {name: roles.index(TIME) for name, roles in subject.axes.inputs.items() if TIME in roles}
    results: list[Outputs] = []
    for time in range(sizes.time):
        sliced = {name: np.take(whole[name], [time], axis) for name, axis in timed.items()}
        results.append(trials.run({**step, **sliced, **states}))
        states = {pair.input: results[-1][pair.output] for pair in subject.pairs}
    return results


def _difference(output: str, whole: NDArray[Any], steps: Sequence[NDArray[Any]], tolerance: float) -> Difference:
    allowed = max(float(np.abs(whole, dtype=np.float64).max(initial=0)) * tolerance, _SMALLEST)
    axis = _time_axis(whole.shape, steps[0].shape, len(steps))
    if axis is None and whole.shape != steps[-1].shape:
        return Difference(output, np.inf, allowed, 0)
    if axis is None:
        return Difference(output, _largest(whole, steps[-1]), allowed, len(steps) - 1)
    each = [_largest(np.take(whole, [time], axis), step) for time, step in enumerate(steps)]
    first = next((time for time, difference in enumerate(each) if not difference <= allowed), 0)
    return Difference(output, max(each), allowed, first)


def _time_axis(whole: tuple[int, ...], step: tuple[int, ...], time: int) -> int | None:
    """The axis that has `time` in the one and 1 in the other, where all others are the same."""
    if len(whole) != len(step):
        return None
    differing = [axis for axis, sizes in enumerate(zip(whole, step, strict=True)) if sizes[0] != sizes[1]]
    return differing[0] if len(differing) == 1 and (whole[differing[0]], step[differing[0]]) == (time, 1) else None


def _largest(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Largest difference; of NaN with anything infinite."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0)
    return float(difference) if np.isfinite(difference) else np.inf

"""Verification of a backend of a stateful network: its outputs and states beside a reference's, call after call.

The reference is onnx's evaluator, which implements the operators' specification in numpy. To verify that evaluator
itself, and where it cannot run the file, it is onnxruntime without graph optimizations.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ...export.parity import Largest
from ...export.tolerances import BOUNDS
from ...export.unsigned_weights import unsigned_weights
from ...runtime.errors import counted
from ...runtime.io.files import read_bytes
from ...runtime.session.providers import import_onnxruntime
from ...runtime.session.session import plain_session
from ..backends.reference import reference_evaluator
from ..backends.registry import REFERENCE
from ..backends.source import Source, StatefulCalls
from ..backends.stateful import STATEFUL, StatefulBackend
from ..scenario import Scenario

_MOST_CALLS, _MOST_STEPS = 16, 64
"""Of the comparison at one size."""

_SMALLEST = 1e-6
_SHOWN_FAILURES = 3
_DEFAULT_PRECISIONS = {"bf16": BOUNDS["bf16"].difference, "f16": BOUNDS["fp16"].difference}


@final
@dataclass(frozen=True)
class Difference:
    """One tensor of one call.

    Attributes:
        tensor: Name of the output, or of the state's output.
        where: The size and the number of the call.
        absolute: Largest absolute difference; infinite where shapes differ, or only one of two numbers is finite.
        allowed: What rounding may make of it.
        scale: Largest magnitude of the reference's tensor.
    """

    tensor: str
    where: str
    absolute: float
    allowed: float
    scale: float

    @property
    def is_fault(self) -> bool:
        """Whether it is larger than rounding."""
        return not self.absolute <= self.allowed

    def __str__(self) -> str:
        differs = f"{self.tensor} differs by {self.absolute:.2e} at scale {self.scale:.2g}"
        return f"{self.where}: {differs}, allowed {self.allowed:.2e}"


def verify_stateful(
    backend: str, source: Source, calls: StatefulCalls, scenarios: Sequence[Scenario]
) -> dict[str, Any]:
    """Compare a backend with its reference in calls of the scenarios' sizes, each side with its own states.

    Raises:
        LmtoolError: The backend, or onnxruntime as its reference, cannot run the file.
    """
    runner = STATEFUL[backend](source, calls)
    reference, name = _reference(backend, source, calls, scenarios)
    tolerance = max(calls.tolerance, _DEFAULT_PRECISIONS.get(runner.precision, 0.0))
    differences = [
        difference
        for scenario in {(each.batch_size, each.time): each for each in scenarios}.values()
        for difference in _differences(runner, reference, scenario, tolerance)
    ]
    failures = [str(difference) for difference in differences if difference.is_fault]
    if len(failures) > _SHOWN_FAILURES:
        failures[_SHOWN_FAILURES:] = [f"and {counted(len(failures) - _SHOWN_FAILURES, 'more difference')}"]
    largest: dict[str, Largest] = {}
    for each in differences:
        before = largest.get(each.tensor, Largest())
        relative = each.absolute / max(each.scale, _SMALLEST)
        largest[each.tensor] = Largest(max(before.absolute, each.absolute), max(before.relative, relative))
    return {
        "original": name,
        "provider": source.provider,
        "calls": len({each.where for each in differences}),
        "tensors": {tensor: asdict(most) for tensor, most in largest.items()},
        "bounds": {"difference": tolerance},
        "failures": failures,
        "passed": not failures,
    }


def _differences(
    runner: StatefulBackend, reference: StatefulBackend, scenario: Scenario, tolerance: float
) -> Iterator[Difference]:
    """Every tensor of successive calls of one size."""
    feed = runner.feed(scenario)
    own, expected = dict(feed.states), dict(feed.states)
    count = min(_MOST_CALLS, max(_MOST_STEPS // (scenario.batch_size * scenario.time), 2))
    for number, inputs in enumerate(itertools.islice(feed.endless(), count), 1):
        outputs, own = runner.step(inputs, own)
        expected_outputs, expected = reference.step(inputs, expected)
        where = f"{scenario}, call {number}"
        for name, tensor in {**expected_outputs, **expected}.items():
            yield _difference(name, where, tensor, {**outputs, **own}[name], tolerance)


def _difference(name: str, where: str, expected: NDArray[Any], computed: NDArray[Any], tolerance: float) -> Difference:
    expected, computed = np.asarray(expected), np.asarray(computed)
    if expected.shape != computed.shape:
        return Difference(name, f"{where}, {list(computed.shape)} not {list(expected.shape)}", np.inf, 0.0, 0.0)
    exact = expected.dtype.kind not in "fc"
    expected, computed = expected.astype(np.float64), computed.astype(np.float64)
    finite = np.isfinite(expected)
    scale = float(np.abs(expected[finite]).max(initial=0.0))
    same = (expected == computed) | (np.isnan(expected) & np.isnan(computed))
    with np.errstate(invalid="ignore"):
        absolute = float(np.where(same, 0.0, np.abs(expected - computed)).max(initial=0.0))
    allowed = 0.0 if exact else max(tolerance * scale, _SMALLEST)
    return Difference(name, where, absolute if np.isfinite(absolute) else np.inf, allowed, scale)


def _reference(
    backend: str, source: Source, calls: StatefulCalls, scenarios: Sequence[Scenario]
) -> tuple[StatefulBackend, str]:
    """The reference of a backend, and its name."""
    if backend == REFERENCE:
        return _unoptimized(source, calls, "")
    try:
        import onnx

        evaluator = StatefulBackend(reference_evaluator(source.artifact).run, calls)
        for scenario in scenarios:
            evaluator.workload(scenario)()
    except Exception as error:  # the file is sound, so the evaluator failed, and its errors share no class
        reason = " ".join(str(error.__cause__ or error).split())
        return _unoptimized(source, calls, f"; onnx.reference cannot run the file: {reason}")
    return evaluator, f"onnx.reference {onnx.__version__}"


def _unoptimized(source: Source, calls: StatefulCalls, reason: str) -> tuple[StatefulBackend, str]:
    session = plain_session(unsigned_weights(read_bytes(source.artifact)), source.threads)
    version = import_onnxruntime().__version__
    return StatefulBackend(session.run, calls), f"onnxruntime {version} without graph optimizations{reason}"

"""torch.profiler: an event for each operator, with those that it calls inside it."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, final

from torch.profiler import ProfilerActivity, profile, record_function

from ..backends.registry import Backend
from ..errors import BenchError
from ..scenario import Scenario
from ..workers.workload import workload
from .kinds import COMPILED, kind_of
from .span import Span, Tallies

_CALL = "lmtool.bench.call"
_MICROSECOND = 1e-6


@final
class TorchProfiler:
    """A `Profiler` of a network in PyTorch: time on the processor, or on the device where that is not the processor.

    A call outside the blocks has no profile. Events that are no operators, as TorchDynamo's, count as outside.
    """

    def __init__(self, backend: Backend, scenario: Scenario, device: str) -> None:
        self._call = workload(backend, scenario)
        self._vocabulary_size = backend.vocabulary_size
        self._on_device = device != "cpu"
        self._activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_device else [])]
        self._tallies: list[Tallies] = []

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        """A profile of the calls in it."""
        with profile(activities=self._activities, record_shapes=True) as recorded:
            yield
        self._tallies += [self._tallied(event) for event in recorded.events() if event.name == _CALL]

    def call(self) -> object:
        """Make a call."""
        with record_function(_CALL):
            return self._call()

    def spans(self, seconds: Sequence[float]) -> list[Span]:
        """A span for each call."""
        if len(self._tallies) != len(seconds):
            raise BenchError(f"torch.profiler recorded {len(self._tallies):,} of {len(seconds):,} calls; measure again")
        return [Span(time, 1, tallies) for time, tallies in zip(seconds, self._tallies, strict=True)]

    def _tallied(self, call: Any) -> Tallies:
        tallies, events = Tallies(), list(call.cpu_children)
        while events:
            event = events.pop()
            events += event.cpu_children
            kind = kind_of(event.name, event.input_shapes, (), self._vocabulary_size)
            if "::" in event.name or kind == COMPILED:
                own = event.self_device_time_total if self._on_device else event.self_cpu_time_total
                tallies.add(_short(event.name), kind, own * _MICROSECOND, len(event.cpu_children))
        return tallies


def _short(name: str) -> str:
    """The name without the hash of compiled code."""
    return "CompiledFxGraph" if "CompiledFxGraph" in name else name

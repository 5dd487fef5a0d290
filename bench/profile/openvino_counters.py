"""OpenVINO's performance counters: the mean time of each node that ran, in whole microseconds.

Nodes that take less than a microsecond count as 0. The bodies of If and TensorIterator have no counters.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

from ..backends.registry import load_backend, session_of
from ..backends.source import Source
from ..scenario import Scenario
from ..workers.workload import vocabulary_size, workload
from .kinds import Shapes, kind_of
from .span import Span, Tallies


@final
class OpenVinoCounters:
    """A `Profiler` with one span for the calls of all blocks."""

    def __init__(self, backend: str, source: Source, scenario: Scenario) -> None:
        loaded = load_backend(backend, replace(source, counters=True))
        self._session = session_of(loaded)
        self._call = workload(loaded, scenario)
        self._vocabulary_size = vocabulary_size(loaded)
        self._calls = 0
        self._before: tuple[int, dict[str, float]] | None = None

    def block(self) -> contextlib.AbstractContextManager[object]:
        """Nothing; but the counters of the calls before the first block are kept."""
        if self._before is None:
            self._before = self._calls, self._sums()
        return contextlib.nullcontext()

    def call(self) -> object:
        """Make a call."""
        self._calls += 1
        return self._call()

    def spans(self, seconds: Sequence[float]) -> list[Span]:
        """One span of all calls."""
        assert self._before is not None
        calls, before = self._before
        shapes, tallies = _shapes(self._session.model.get_runtime_model()), Tallies()
        types = {node.node_name: node.node_type for node in self._session.counters()}
        for name, total in self._sums().items():
            kind = kind_of(types[name], *shapes.get(name, ((), ())), self._vocabulary_size)
            tallies.add(types[name], kind, max(total - before.get(name, 0.0), 0.0), events=self._calls - calls)
        return [Span(sum(seconds), len(seconds), tallies)]

    def _sums(self) -> dict[str, float]:
        """Node -> its time in all calls, where it has any."""
        means = {node.node_name: node.real_time.total_seconds() for node in self._session.counters()}
        return {name: mean * self._calls for name, mean in means.items() if mean > 0}


def _shapes(model: Any) -> dict[str, tuple[Shapes, Shapes]]:
    """Shapes of the inputs and outputs of each node; a free axis has 0."""
    return {node.get_friendly_name(): (_sizes(node.inputs()), _sizes(node.outputs())) for node in model.get_ops()}


def _sizes(tensors: Any) -> Shapes:
    return [
        [axis.get_length() if axis.is_static else 0 for axis in tensor.get_partial_shape()]
        for tensor in tensors
        if not tensor.get_partial_shape().rank.is_dynamic
    ]

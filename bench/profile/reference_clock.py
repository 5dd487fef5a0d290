"""A clock around each node of onnx's reference evaluator."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import numpy as np

from ..backends.registry import REFERENCE, load_backend, session_of
from ..backends.source import Source
from ..scenario import Scenario
from ..workers.workload import vocabulary_size, workload
from .kinds import kind_of
from .nesting import Nesting
from .span import Span, Tallies


@final
class ReferenceClock:
    """A `Profiler` of an evaluator whose nodes are timed one by one, those in bodies apart from the If or Scan."""

    def __init__(self, source: Source, scenario: Scenario) -> None:
        backend = load_backend(REFERENCE, source)
        self._vocabulary_size = vocabulary_size(backend)
        self._nesting, self._tallies = Nesting(), list[Tallies]()
        for node in nodes_of(session_of(backend)):
            node.run = self._timed(node.onnx_node.op_type, node.run)
        self._call = workload(backend, scenario)

    def block(self) -> contextlib.AbstractContextManager[object]:
        """Nothing: the clock always runs."""
        return contextlib.nullcontext()

    def call(self) -> object:
        """Make a call."""
        self._tallies.append(Tallies())
        return self._call()

    def spans(self, seconds: Sequence[float]) -> list[Span]:
        """A span for each call."""
        last = self._tallies[len(self._tallies) - len(seconds) :]
        return [Span(time, 1, tallies) for time, tallies in zip(seconds, last, strict=True)]

    def _timed(self, operator: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*inputs: Any, **options: Any) -> Any:
            self._nesting.begin(time.perf_counter())
            outputs = run(*inputs, **options)
            own, nested = self._nesting.end(time.perf_counter())
            kind = kind_of(operator, _shapes(inputs), _shapes(outputs), self._vocabulary_size)
            self._tallies[-1].add(operator, kind, own, nested)
            return outputs

        return timed


def nodes_of(evaluator: Any) -> Iterator[Any]:
    """The nodes of an evaluator, and of the bodies in them."""
    for node in evaluator.rt_nodes_:
        yield node
        for part in vars(node).values():
            if isinstance(part, type(evaluator)):
                yield from nodes_of(part)


def _shapes(values: Any) -> list[tuple[int, ...]]:
    return [value.shape for value in values if isinstance(value, np.ndarray)]

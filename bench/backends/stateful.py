"""The backends of a stateful network: an ONNX file in a runtime, called with arrays, its states carried by hand."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, final

from numpy.typing import NDArray

from ...runtime.stateful.stateful_session import StatefulSession
from ..scenario import Scenario
from ..stateful.feeds import Arrays, Feed, read_feed
from .openvino import OpenVinoSession
from .sessions import SESSIONS, Run
from .source import Source, StatefulCalls


@final
class StatefulBackend:
    """A session of any runtime. A call takes and returns arrays in host memory, with no check or copy around it.

    Attributes:
        run: The session's method.
        pid: The process that computes.
        precision: What the runtime computes in, where the file does not tell; else empty.
    """

    def __init__(self, run: Run, calls: StatefulCalls, precision: str = "") -> None:
        self.pid = os.getpid()
        self.precision = precision
        self.run: Any = run
        self._calls = calls
        self._names = [*calls.outputs, *calls.states.values()]

    def feed(self, scenario: Scenario) -> Feed:
        """The inputs of a scenario's calls."""
        return read_feed(self._calls.feeds, (scenario.batch_size, scenario.time))

    def step(self, inputs: Arrays, states: Arrays) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """One call: the outputs by name, and the states after it by the names of their inputs."""
        results = self.run(self._names, {**inputs, **states})
        count = len(self._calls.outputs)
        outputs = dict(zip(self._calls.outputs, results[:count], strict=True))
        return outputs, dict(zip(self._calls.states, results[count:], strict=True))

    def workload(self, scenario: Scenario) -> Callable[[], object]:
        """A function that makes one call of a scenario; each continues from the states of the one before."""
        feed = self.feed(scenario)
        inputs, states = feed.endless(), dict(feed.states)

        def call() -> None:
            nonlocal states
            _, states = self.step(next(inputs), states)

        return call


def _onnxruntime(source: Source, calls: StatefulCalls) -> StatefulBackend:
    states, provider, threads = calls.states, source.provider, source.threads
    session = StatefulSession.load(source.artifact, states, provider=provider, threads=threads, fold_constants=True)
    return StatefulBackend(session.session.run, calls)


def _session(open: Callable[[Source], Run], source: Source, calls: StatefulCalls) -> StatefulBackend:
    return StatefulBackend(open(source), calls)


def _openvino_default(source: Source, calls: StatefulCalls) -> StatefulBackend:
    session = OpenVinoSession(source.artifact, source.threads, None, source.counters)
    return StatefulBackend(session.run, calls, session.precision)


STATEFUL: Mapping[str, Callable[[Source, StatefulCalls], StatefulBackend]] = {
    "onnxruntime": _onnxruntime,
    "openvino-default": _openvino_default,
    **{name: partial(_session, spec.open) for name, spec in SESSIONS.items()},
}
"""The backends that run any network, by the names of `BACKENDS`; each loads a file, or raises an LmtoolError."""

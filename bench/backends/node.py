"""The backends in JavaScript: an ONNX file in onnxruntime-node, or in onnxruntime-web (WebAssembly, or WebGPU).

`NODE_CLOCK` counts the time of loads and calls."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ...runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS
from ...runtime.predictor import Predictor
from ..errors import BenchError
from .browser_process import BrowserProcess
from .node_process import NodeProcess, start


@final
class NodeClock:
    """Seconds spent in loads and calls of this process's node sessions.

    That is the time that an application in node waits, from typed array to typed array: without the pipe, Python or the
    start of node. Each reading adds a nanosecond, because pytest-benchmark measures the clock's resolution.
    """

    def __init__(self) -> None:
        self._nanoseconds = 0
        self._one_at_a_time = threading.Lock()

    def add(self, nanoseconds: int) -> None:
        """Advance the clock."""
        with self._one_at_a_time:
            self._nanoseconds += nanoseconds

    def __call__(self) -> float:
        """Read the clock, in seconds."""
        self.add(1)
        return self._nanoseconds / 1e9


NODE_CLOCK = NodeClock()
"""The clock of all sessions."""

TARGETS = "targets"


@final
class NodeSession:
    """A session of a package in its own process (`pid`), with the package's default options except threads.

    The process is a new one of node by default.

    Raises:
        BenchError: The program or the package is missing, or cannot load the file.
    """

    def __init__(
        self, artifact: Path, package: str, threads: int, process: NodeProcess | BrowserProcess | None = None
    ) -> None:
        self._process = process or start(package)
        self.pid = self._process.pid
        self._one_at_a_time = threading.Lock()
        try:
            header, _ = self._process.ask({"artifact": str(artifact.resolve()), "threads": threads})
        except BenchError as error:
            raise BenchError(f"{package} cannot load {artifact}: {error}") from error
        NODE_CLOCK.add(header["nanoseconds"])

    def run(
        self,
        outputs: Sequence[str],
        feed: Mapping[str, NDArray[Any]],
        *,
        targets: NDArray[np.int64] | None = None,
    ) -> list[NDArray[Any]]:
        """The outputs for these inputs, as copies.

        Args:
            outputs: Names; the logits come first.
            feed: Inputs by name.
            targets: int64 [batch, time]; returns their log-probabilities, float64 [batch, time], instead of the logits.

        Raises:
            BenchError: The call failed, which ends the session, or the session has ended already.
        """
        tensors = feed if targets is None else {**feed, TARGETS: targets}
        with self._one_at_a_time:
            header, results = self._process.ask({"outputs": list(outputs)}, tensors)
        NODE_CLOCK.add(header["nanoseconds"])
        return results

    def close(self) -> None:
        """End the process."""
        self._process.close()


_State = dict[str, NDArray[Any]]


@final
class NodeBackend:
    """A session in node, a `Backend`; a state is a dictionary of arrays by input name."""

    def __init__(self, predictor: Predictor, session: NodeSession) -> None:
        self.predictor = predictor
        self.vocabulary_size = len(predictor.vocabulary)
        self.pid = session.pid
        self._session = session
        self._states = list(predictor.artifact.architecture.states)
        self._outputs = [LOGITS, *(f"{NEXT}{name}" for name in self._states)]

    def initial_state(self, batch_size: int) -> _State:
        """The zero state of `batch_size` streams."""
        return dict(zip(self._states, self.predictor.initial_state(batch_size).tensors, strict=True))

    def read(self, token_ids: NDArray[np.int64], state: _State) -> _State:
        """Logits of every position."""
        return self._run(token_ids, state)

    def prefill(self, token_ids: NDArray[np.int64], state: _State) -> _State:
        """Logits of every position: these packages do not support inputs with defaults."""
        return self._run(token_ids, state)

    def score(self, token_ids: NDArray[np.int64], targets: NDArray[np.int64], state: _State) -> _State:
        """Log-probabilities of targets."""
        return self._run(token_ids, state, targets)

    def _run(self, token_ids: NDArray[np.int64], state: _State, targets: NDArray[np.int64] | None = None) -> _State:
        _, *after = self._session.run(self._outputs, {TOKEN_IDS: token_ids, **state}, targets=targets)
        return dict(zip(self._states, after, strict=True))

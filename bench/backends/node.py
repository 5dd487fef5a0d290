"""An ONNX file in onnxruntime-node or onnxruntime-web (WebAssembly), called as an onnxruntime session is called.

What loading and calls take is added to `NODE_CLOCK`."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ...runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS
from ...runtime.predictor import Predictor
from ..errors import BenchError
from .node_process import start


@final
class NodeClock:
    """Seconds that loading and calls of this process's node sessions have taken so far.

    It is what an application in node would have waited, from its typed arrays to those of the results: without the
    pipe, without what Python does before and after, and without starting node. It also advances by a nanosecond at each
    look, because pytest-benchmark measures a clock's resolution and would find none.
    """

    def __init__(self) -> None:
        """Begin at zero."""
        self._nanoseconds = 0
        self._one_at_a_time = threading.Lock()

    def add(self, nanoseconds: int) -> None:
        """Something took so long."""
        with self._one_at_a_time:
            self._nanoseconds += nanoseconds

    def __call__(self) -> float:
        """The seconds."""
        self.add(1)
        return self._nanoseconds / 1e9


NODE_CLOCK = NodeClock()
"""Of all sessions."""

TARGETS = "targets"


@final
class NodeSession:
    """A session in a node process of its own, with the package's defaults but for the threads.

    Attributes:
        pid: The id of that process.
    """

    def __init__(self, artifact: Path, package: str, threads: int) -> None:
        """Start node and load the file there.

        Args:
            artifact: The ONNX file.
            package: `onnxruntime-node` or `onnxruntime-web`.
            threads: Threads of one call.

        Raises:
            BenchError: There is no node, or it cannot load the package or the file.
        """
        self._process = start(package)
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
        steps: int = 1,
        targets: NDArray[np.int64] | None = None,
    ) -> list[NDArray[Any]]:
        """The outputs for these inputs, copies.

        Args:
            outputs: Names; the logits come first.
            feed: Inputs by name.
            steps: Calls, each of which reads the most probable tokens after the one before and goes on from its states.
            targets: int64 [batch, time]: in place of the logits their log-probabilities, float64 [batch, time].

        Raises:
            BenchError: The call failed, which ends the session, or it has ended before.
        """
        tensors = feed if targets is None else {**feed, TARGETS: targets}
        with self._one_at_a_time:
            header, found = self._process.ask({"outputs": list(outputs), "steps": steps}, tensors)
        NODE_CLOCK.add(header["nanoseconds"])
        return found

    def get_overridable_initializers(self) -> list[Any]:
        """None: one package overlooks an input that has a default, the other refuses it."""
        return []

    def close(self) -> None:
        """End the process."""
        self._process.close()


_State = dict[str, NDArray[Any]]


@final
class NodeBackend:
    """One session in node; see `Backend` for its methods. A state is its arrays by the names of the inputs."""

    def __init__(self, predictor: Predictor, session: NodeSession) -> None:
        """Measure `session`, over which `predictor` stands."""
        self.predictor = predictor
        self.vocabulary_size = len(predictor.vocabulary)
        self.pid = session.pid
        self._session = session
        self._states = list(predictor.artifact.architecture.states)
        self._outputs = [LOGITS, *(f"{NEXT}{name}" for name in self._states)]

    def initial_state(self, batch_size: int) -> _State:
        """The zero state."""
        return dict(zip(self._states, self.predictor.initial_state(batch_size).tensors, strict=True))

    def read(self, token_ids: NDArray[np.int64], state: _State) -> _State:
        """Logits of every position."""
        return self._run(token_ids, state)

    def prefill(self, token_ids: NDArray[np.int64], state: _State) -> _State:
        """Logits of every position too: these packages know no inputs that have a default."""
        return self._run(token_ids, state)

    def score(self, token_ids: NDArray[np.int64], targets: NDArray[np.int64], state: _State) -> _State:
        """Log-probabilities of targets."""
        return self._run(token_ids, state, targets=targets)

    def generate(self, token_ids: NDArray[np.int64], count: int, state: _State) -> _State:
        """The most probable tokens."""
        return self._run(token_ids, state, steps=count)

    def _run(self, token_ids: NDArray[np.int64], state: _State, **work: Any) -> _State:
        _, *after = self._session.run(self._outputs, {TOKEN_IDS: token_ids, **state}, **work)
        return dict(zip(self._states, after, strict=True))

"""The artifact in a node process, as a runtime that is measured: what is made of the logits is made in node too."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..runtime.artifact import LOGITS, NEXT, TOKEN_IDS
from ..runtime.predictor import Predictor
from .node_session import NodeSession

_State = dict[str, NDArray[Any]]


@final
class NodeFile:
    """One session in node; see `Runtime` for its methods. A state is its arrays by the names of the inputs."""

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

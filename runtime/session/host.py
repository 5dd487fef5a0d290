"""Runs a session on numpy arrays."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Tensors, freeze
from ..artifact.artifact import LOGITS_TO_KEEP, TOKEN_IDS
from .calls import Graph, translate_onnxruntime_errors
from .log_probs import LogProbs


@final
class HostRunner:
    """Runs a session on numpy arrays. Thread-safe, as sessions are."""

    def __init__(self, session: Any, graph: Graph, scorer: LogProbs) -> None:
        self._session = session
        self._graph = graph
        self._scorer = scorer

    def run(
        self, token_ids: NDArray[np.int64], tensors: Tensors, positions: int
    ) -> tuple[NDArray[np.float32], Tensors]:
        """Logits of the last `positions`, float32 [batch, positions, vocabulary], and the states after the last."""
        graph = self._graph
        batch, time = token_ids.shape
        feed: dict[str, NDArray[Any]] = {TOKEN_IDS: token_ids}
        feed.update(zip(graph.states, tensors, strict=True))
        if graph.can_keep and positions != time:
            feed[LOGITS_TO_KEEP] = np.array([max(positions, 1)], np.int64)
        with translate_onnxruntime_errors():
            logits, *after = self._session.run(graph.outputs, feed)
        graph.check_shapes(logits.shape, [array.shape for array in after], batch, positions)
        return logits[:, logits.shape[1] - positions :], tuple(map(freeze, after))

    def log_probs(
        self, token_ids: NDArray[np.int64], tensors: Tensors, targets: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], Tensors]:
        """Log-probabilities of `targets` at the last positions, float64 [batch, positions], and the states."""
        logits, after = self.run(token_ids, tensors, targets.shape[1])
        return self._scorer.of_array(logits, targets), after

    def target_log_probs(self, logits: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Log-probabilities, float64 [batch, positions], of `targets` by logits float32 [batch, positions, words]."""
        return self._scorer.of_array(logits, targets)

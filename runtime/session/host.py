"""Runs a session on numpy arrays."""

import contextlib
import functools
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Tensors, freeze
from ..artifact.artifact import LOGITS_TO_KEEP, TOKEN_IDS
from ..errors import ArtifactError
from .bound_call import BoundCall, Reused
from .calls import Graph, translate_onnxruntime_errors
from .log_probs import LogProbs

_ERRORS_IGNORED = contextlib.suppress(ArtifactError)


@final
class HostRunner:
    """Runs a session on numpy arrays. Thread-safe, as sessions are."""

    def __init__(self, session: Any, graph: Graph, scorer: LogProbs) -> None:
        self._session = session
        self._graph = graph
        self._scorer = scorer
        self._can_bind = hasattr(session, "io_binding")  # sessions of other runtimes only run
        self._one_token_calls = Reused(functools.partial(_OneTokenCall, session, graph))

    def run(
        self, token_ids: NDArray[np.int64], tensors: Tensors, positions: int
    ) -> tuple[NDArray[np.float32], Tensors]:
        """Logits of the last `positions`, float32 [batch, positions, vocabulary], and the states after the last."""
        if self._can_bind and token_ids.shape == (1, 1) and positions == 1:
            with _ERRORS_IGNORED, translate_onnxruntime_errors():  # the general call below says what is wrong
                return self._run_one_token(token_ids, tensors)
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

    def _run_one_token(self, token_ids: NDArray[np.int64], tensors: Tensors) -> tuple[NDArray[np.float32], Tensors]:
        call = self._one_token_calls.take()
        result = call.run(token_ids, tensors)
        self._one_token_calls.give_back(call)
        return result

    def log_probs(
        self, token_ids: NDArray[np.int64], tensors: Tensors, targets: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], Tensors]:
        """Log-probabilities of `targets` at the last positions, float64 [batch, positions], and the states."""
        logits, after = self.run(token_ids, tensors, targets.shape[1])
        return self.target_log_probs(logits, targets[..., None])[..., 0], after

    def target_log_probs(self, logits: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Log-probabilities, float64 [..., k], of k targets of each row of logits float32 [..., vocabulary]."""
        return self._scorer.of_arrays(logits, targets)


@final
class _OneTokenCall:
    """One token of one stream, in a sixth less time than by `session.run`: arrays are copied and not made."""

    def __init__(self, session: Any, graph: Graph) -> None:
        self._token = np.zeros((1, 1), np.int64)
        self._logits = np.zeros((1, 1, graph.vocabulary_size), np.float32)
        self._before = [np.zeros((1, width), np.float32) for width in graph.widths]
        self._after = [np.zeros((1, width), np.float32) for width in graph.widths]
        inputs: dict[str, NDArray[Any]] = {TOKEN_IDS: self._token, **dict(zip(graph.states, self._before, strict=True))}
        outputs: list[NDArray[Any]] = [self._logits, *self._after]
        self._call = BoundCall(session, inputs, dict(zip(graph.outputs, outputs, strict=True)))

    def run(self, token_ids: NDArray[np.int64], tensors: Tensors) -> tuple[NDArray[np.float32], Tensors]:
        self._token[:] = token_ids
        for own, given in zip(self._before, tensors, strict=True):
            own[:] = given
        self._call.run()
        return self._logits.copy(), tuple([freeze(state.copy()) for state in self._after])

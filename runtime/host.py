"""Calls of a session whose tensors lie in the processor's memory."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .arrays import frozen
from .artifact import LOGITS, LOGITS_TO_KEEP, NEXT, TOKEN_IDS
from .errors import ArtifactError
from .providers import raise_if_refused
from .score import target_log_probs
from .tensors import Tensors


@final
class HostCalls:
    """Runs a session on numpy arrays. Thread-safe, as sessions are."""

    def __init__(self, session: Any, states: Mapping[str, int], can_keep: bool, vocabulary_size: int) -> None:
        """Use `create_calls`.

        Args:
            session: The artifact's session.
            states: Name of each state input -> its width, in the artifact's order.
            can_keep: Whether the graph has `logits_to_keep`.
            vocabulary_size: Width of the logits.
        """
        self._session = session
        self._states = tuple(states)
        self._widths = tuple(states.values())
        self._vocabulary_size = vocabulary_size
        self._outputs = [LOGITS, *(f"{NEXT}{name}" for name in states)]
        self._can_keep = can_keep

    def run(
        self, token_ids: NDArray[np.int64], tensors: Tensors, positions: int
    ) -> tuple[NDArray[np.float32], Tensors]:
        """Logits of the last `positions`, float32 [batch, positions, vocabulary], and the states after the last.

        Raises:
            ArtifactError: onnxruntime cannot run the graph, or it gives other shapes than it declares.
        """
        batch, time = token_ids.shape
        feed: dict[str, NDArray[Any]] = {TOKEN_IDS: token_ids}
        feed.update(zip(self._states, tensors, strict=True))
        if self._can_keep and positions != time:
            feed[LOGITS_TO_KEEP] = np.array([max(positions, 1)], np.int64)
        try:
            logits, *after = self._session.run(self._outputs, feed)
        except Exception as error:
            raise_if_refused(error)
            raise
        self._require_shapes(logits, after, batch, positions)
        return logits[:, logits.shape[1] - positions :], tuple(map(frozen, after))

    def log_probs(
        self, token_ids: NDArray[np.int64], tensors: Tensors, targets: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], Tensors]:
        """Log-probability of one target at each of the last positions, float64 [batch, positions], and the states."""
        logits, after = self.run(token_ids, tensors, targets.shape[1])
        found = target_log_probs(logits.reshape(-1, logits.shape[2]), targets.reshape(-1))
        return found.reshape(targets.shape), after

    def _require_shapes(self, logits: NDArray[Any], after: list[NDArray[Any]], batch: int, positions: int) -> None:
        """What a session gives may have other shapes than its graph declares, of which onnxruntime only warns."""
        kept = logits.shape[1] if logits.ndim == 3 else -1
        fits = kept >= positions and logits.shape == (batch, kept, self._vocabulary_size)
        if not fits or any(array.shape != (batch, width) for array, width in zip(after, self._widths, strict=True)):
            found = ", ".join(str(list(array.shape)) for array in (logits, *after))
            raise ArtifactError(
                f"the artifact's graph breaks the contract: for a batch of {batch} and {positions} positions it gave "
                f"{found}, expected logits [{batch}, {positions}, {self._vocabulary_size}] and states {self._widths}"
            )

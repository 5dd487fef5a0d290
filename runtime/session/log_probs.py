"""Log-probabilities of tokens from logits, by a second graph without weights.

onnxruntime's log-softmax takes a third of numpy's time. It computes each row alone, so that the bits of a row do not
depend on the others.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..artifact.artifact import LOGITS
from .calls import translate_onnxruntime_errors
from .weightless import LOG_PROBS, TARGETS, scoring_graph

_BLOCK_NUMBERS = 1 << 18
"""Most logits of a call on the processor, which its cache holds with their log-probabilities: 1 MiB each."""


@final
class LogProbs:
    """Natural log-probabilities of target tokens. Thread-safe; its session starts at the first use."""

    def __init__(self, start: Callable[[bytes], Any]) -> None:
        """`start` starts a session over a graph, on the device of the logits."""
        self._start = start

    def of_arrays(self, logits: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of float32 [..., vocabulary] and k targets of each row, int64 [..., k]; NaN and infinity propagate."""
        rows, wanted = (array.reshape(-1, array.shape[-1]) for array in (logits, targets))
        found = np.empty(wanted.shape, np.float64)
        step = max(_BLOCK_NUMBERS // rows.shape[1], 1)
        for start in range(0, len(found), step):
            chosen = slice(start, start + step)
            with translate_onnxruntime_errors():
                (block,) = self._session.run(None, {LOGITS: rows[None, chosen], TARGETS: wanted[None, chosen]})
            found[chosen] = block[0]
        return found.reshape(targets.shape)

    def of_value(self, logits: Any, targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Log-probabilities of `targets`, int64 [batch, positions], at the last positions; float64 of the same shape.

        Args:
            logits: An OrtValue on the session's device, float32 [batch, positions or more, vocabulary].
            targets: The tokens.
        """
        batch, positions = targets.shape
        aligned = np.zeros((batch, logits.shape()[1], 1), np.int64)
        first = aligned.shape[1] - positions
        aligned[:, first:, 0] = targets
        session = self._session
        with translate_onnxruntime_errors():
            binding = session.io_binding()
            binding.bind_ortvalue_input(LOGITS, logits)
            binding.bind_cpu_input(TARGETS, aligned)
            binding.bind_output(LOG_PROBS, "cpu")
            session.run_with_iobinding(binding)
            log_probs = binding.get_outputs()[0].numpy()
        return np.asarray(log_probs[:, first:, 0].astype(np.float64))

    @cached_property
    def _session(self) -> Any:
        return self._start(scoring_graph())

"""Softmax and the most probable tokens by onnxruntime, several times as fast as numpy on x86-64 without AVX-512."""

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.artifact import LOGITS
from .providers import PROVIDERS
from .session import SessionOptions, start_session
from .weightless import BEST_IDS, BEST_LOGITS, COUNT, PROBABILITIES, ranking_graph, softmax_graph


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of each row, both float32 [rows, vocabulary]; a row's bits do not depend on the other rows.

    That of minus infinity is 1e-37 or less, but not always 0. Thread-safe, as `ranked`; the first call of a process
    starts a session of one thread, in 2 ms.
    """
    (probabilities,) = _session(softmax_graph, os.getpid()).run([PROBABILITIES], {LOGITS: logits})
    return np.asarray(probabilities)


def ranked(logits: NDArray[np.float32], count: int) -> tuple[list[int], NDArray[np.float64]]:
    """The ids of the `count` largest logits, float32 [vocabulary], ties by id, and their probabilities, float64."""
    feed = {LOGITS: logits[None], COUNT: np.array([min(count, len(logits))])}
    outputs = [PROBABILITIES, BEST_LOGITS, BEST_IDS]
    probabilities, best, ids = _session(ranking_graph, os.getpid()).run(outputs, feed)
    # Differences of logits are exact in float64; the total is that of weights of which the largest is 1.
    total = float(np.add.reduce(probabilities[0])) / float(probabilities[0, ids[0, 0]])
    weights = best[0].astype(np.float64)
    return ids[0].tolist(), np.exp(weights - weights[0]) / total


@functools.lru_cache(maxsize=2)
def _session(graph: Callable[[], bytes], process: int) -> Any:
    return start_session(graph(), PROVIDERS["cpu"], SessionOptions(threads=1))

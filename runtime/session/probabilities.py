"""The most probable tokens of logits."""

import os

import numpy as np
from numpy.typing import NDArray

from .row_calls import padded_width, session_of
from .weightless import BEST_IDS, BEST_PROBABILITIES, COUNT, FACTOR, ROWS, ranking_graph


def ranked(logits: NDArray[np.float32], count: int) -> tuple[list[int], NDArray[np.float64]]:
    """The ids of the `count` largest logits, float32 [vocabulary], ties by id, and their probabilities, float64."""
    rows = np.full((1, padded_width(len(logits))), -np.inf, np.float32)
    rows[0, : len(logits)] = logits
    feed = {ROWS: rows, FACTOR: np.ones((1, 1), np.float32), COUNT: np.array([min(count, len(logits))])}
    ids, probabilities = session_of(ranking_graph, os.getpid()).run([BEST_IDS, BEST_PROBABILITIES], feed)
    return ids[0].tolist(), probabilities[0]

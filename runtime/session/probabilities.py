"""The most probable tokens of logits."""

import math
import os

import numpy as np
from numpy.typing import NDArray

from .row_calls import RANKED, RowCall, row_calls, run_rows
from .weightless import BEST_IDS, BEST_LOGITS, COUNT, LARGEST, ROWS, TOTAL_OF_ALL, ranking_graph

_FEW = 512
"""Tokens that numpy ranks in less time than onnxruntime ranks a vocabulary."""


def ranked(logits: NDArray[np.float32], count: int, among: list[int] | None = None) -> tuple[list[int], list[float]]:
    """The ids of the `count` most probable tokens, ties by id, and their probabilities; fewer if there are no more.

    Args:
        logits: float32 [vocabulary].
        count: At least 1.
        among: Rising ids of the tokens to rank, at least one, whose probabilities sum to 1; None for all.
    """
    if among is not None and len(among) <= _FEW:
        return _ranked_few(logits, count, among)
    calls = row_calls(len(logits), os.getpid())
    call = calls.take()
    if among is None:
        call.logits[:] = logits
    else:
        call.logits.fill(-np.inf)
        call.logits[among] = logits[among]
    result = _ranked_row(call, min(count, len(logits if among is None else among)))
    calls.give_back(call)
    return result


def _ranked_few(logits: NDArray[np.float32], count: int, among: list[int]) -> tuple[list[int], list[float]]:
    values = logits[among]
    order = (-values).argsort(kind="stable")
    weights = np.exp(np.subtract(values, values[order[0]], dtype=np.float64))
    best = order[:count]
    return [among[place] for place in best.tolist()], (weights[best] / np.add.reduce(weights)).tolist()


def _ranked_row(call: RowCall, count: int) -> tuple[list[int], list[float]]:
    if count <= RANKED:
        call.count[0] = RANKED
        call.run(ranking_graph)
        ids, logits = call.best_ids[:count].tolist(), call.best_logits[:count].tolist()
        largest, total = call.largest[0], call.total_of_all[0]
    else:
        outputs = [BEST_IDS, BEST_LOGITS, LARGEST, TOTAL_OF_ALL]
        found = run_rows(ranking_graph, outputs, {ROWS: call.rows, COUNT: np.array([count])})
        ids, logits, (largest,), (total,) = (array[0].tolist() for array in found)
    # The logits are exact, and so are their differences: one probability and the total give the others.
    return ids, [math.exp(logit - logits[0]) * largest / total for logit in logits]

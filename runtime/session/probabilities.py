"""The most probable tokens of logits."""

import os

import numpy as np
from numpy.typing import NDArray

from .row_calls import RANKED, RowCall, row_calls, run_rows
from .weightless import BEST_IDS, BEST_PROBABILITIES, COUNT, FACTOR, ROWS, ranking_graph

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
    if count > RANKED:
        inputs = {ROWS: call.rows, FACTOR: np.ones((1, 1), np.float32), COUNT: np.array([count])}
        ids, probabilities = run_rows(ranking_graph, [BEST_IDS, BEST_PROBABILITIES], inputs)
        return ids[0].tolist(), probabilities[0].tolist()
    call.factor[0], call.count[0] = 1, RANKED
    call.run(ranking_graph)
    return call.best_ids[:count].tolist(), call.best_probabilities[:count].tolist()

"""Weights of features that make the fewest errors on lists whose errors are known.

Along a line of weights each hypothesis's total is linear, and the best hypothesis of a list changes only where the
upper envelope of these lines has a corner. So the errors of all lists along the line are known exactly, and the minimum
is found without a grid (Och, 2003, https://aclanthology.org/P03-1021). Lines along each feature, and along the weights
themselves, alternate until none has fewer errors.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

_MOST_SEARCHES = 100


@final
class JudgedList(NamedTuple):
    """The n-best list of an utterance.

    Attributes:
        scores: float64 [hypotheses], the recogniser's.
        features: float64 [hypotheses, features].
        errors: int64 [hypotheses], counted against the reference.
    """

    scores: NDArray[np.float64]
    features: NDArray[np.float64]
    errors: NDArray[np.int64]


def tune(lists: Sequence[JudgedList]) -> NDArray[np.float64]:
    """Weights, float64 [features], 0 or more for the first feature, with few errors of the best hypotheses.

    Each search returns the middle of the widest interval that has the fewest errors.
    """
    weights = np.zeros(lists[0].features.shape[1])
    fewest, searches, useless = errors_with(lists, weights), 0, 0
    directions = np.eye(len(weights))
    while useless <= len(directions) and searches < _MOST_SEARCHES:
        which = searches % (len(directions) + 1)
        direction = directions[which] if which < len(directions) else weights.copy()
        moved = _searched(lists, weights, direction) if direction.any() else weights
        errors = errors_with(lists, moved)
        searches, useless = searches + 1, 0 if errors < fewest else useless + 1
        if errors < fewest:
            weights, fewest = moved, errors
    return weights


def errors_with(lists: Sequence[JudgedList], weights: NDArray[np.float64]) -> int:
    """The errors of the best hypotheses."""
    return sum(int(each.errors[np.argmax(each.scores + each.features @ weights)]) for each in lists)


def _searched(
    lists: Sequence[JudgedList], weights: NDArray[np.float64], direction: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The weights with the fewest errors on a line through `weights`."""
    corners, changes, errors = [], [], 0
    for each in lists:
        first, *others = _envelope(each.scores + each.features @ weights, each.features @ direction)
        errors += int(each.errors[first[1]])
        before = first[1]
        for corner, best in others:
            corners.append(corner)
            changes.append(int(each.errors[best] - each.errors[before]))
            before = best
    step = _middle(np.array(corners), np.array(changes, np.int64), errors, _least(weights, direction))
    return np.asarray(weights + step * direction)


def _least(weights: NDArray[np.float64], direction: NDArray[np.float64]) -> float:
    """The step at which the first weight becomes 0."""
    return float(-weights[0] / direction[0]) if direction[0] else -np.inf


def _envelope(heights: NDArray[np.float64], slopes: NDArray[np.float64]) -> Iterator[tuple[float, int]]:
    """Where each line of the upper envelope begins, and its index, from minus infinity on."""
    stack: list[tuple[float, int]] = []
    order = np.lexsort((np.arange(len(heights))[::-1], heights, slopes))  # of equal lines, the first comes last
    for index in order.tolist():
        start = -np.inf
        while stack:
            before, top = stack[-1]
            rise = slopes[index] - slopes[top]
            start = (heights[top] - heights[index]) / rise if rise > 0 else -np.inf
            if start > before:
                break
            stack.pop()
        stack.append((start if stack else -np.inf, index))
    return iter(stack)


def _middle(corners: NDArray[np.float64], changes: NDArray[np.int64], errors: int, least: float) -> float:
    """The middle of the widest interval at or above `least` with the fewest errors; 0 without any.

    The first and the last interval, which have no end, count as wide as the mean of the others.
    """
    if not len(corners):
        return 0.0
    order = np.argsort(corners)
    corners = corners[order]
    margin = float(np.ptp(corners)) / len(corners) or 1.0
    edges = np.concatenate([[corners[0] - margin], corners, [corners[-1] + margin]]).clip(least)
    widths = np.diff(edges)
    totals = errors + np.concatenate([[0], np.cumsum(changes[order])])
    fewest = totals[widths > 0].min(initial=np.iinfo(np.int64).max)
    best = int(np.argmax(np.where(totals == fewest, widths, 0)))
    return float(edges[best] + edges[best + 1]) / 2 if widths[best] > 0 else 0.0

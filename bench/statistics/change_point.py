"""Change points in a series of times, one a run: where the later runs are certainly slower or faster.

A simple form of what Hunter does (Fleming et al., arXiv 2301.03034) after E-divisive (Daly et al., ICPE 2020): every
split of a series is tested with Student's t over logarithms, and the surest one is taken. Three things are different.
A series is searched as it grew, run by run, and each change starts it anew, so that a change stays known when a later
one undoes it. A machine that drifts makes neighbouring runs alike, so the error grows with the correlation of the
residuals. And the confidence counts all splits, series and looks, so that all looks at runs without a change, however
many, find one with at most 1 % chance if runs differ independently; runs that are alike beyond their neighbours raise
it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from .decision import decision_confidence
from .estimate import Estimate
from .student import student_quantile

FEWEST = 3
"""Fewest runs before and after a change."""

_MOST_CORRELATION = 0.95
_ROUNDING = 1e-9

Values = NDArray[np.float64]


@final
@dataclass(frozen=True)
class ChangePoint:
    """A change of a series.

    Attributes:
        first: Index of the first value after the change.
        certain: Number of values at which it became certain.
        ratio: Values after over values before, each up to the next change, with an interval.
        confidence: Confidence of the interval, that which decided.
    """

    first: int
    certain: int
    ratio: Estimate
    confidence: float

    @property
    def is_slower(self) -> bool:
        """Whether the values became larger."""
        return self.ratio.value > 1


def find_changes(values: Sequence[float], series: int = 1) -> list[ChangePoint]:
    """The changes that are certain, in order; none in fewer than 2 * `FEWEST` values.

    Args:
        values: Positive values, one a run, in order.
        series: Number of series that are searched together.
    """
    logarithms = np.log(values)
    found: list[tuple[int, int, float]] = []
    begin = 0
    for end in range(len(values) + 1):
        part = logarithms[begin:end]
        confidence = _confidence(len(part), series)
        split = None if confidence is None else _surest_split(part, confidence)
        if split is not None and confidence is not None:
            begin += split
            found.append((begin, end, confidence))
    bounds = [0, *(first for first, _, _ in found), len(values)]
    return [
        ChangePoint(first, certain, _ratio(logarithms[before:after], first - before, confidence), confidence)
        for before, after, (first, certain, confidence) in zip(bounds, bounds[2:], found, strict=False)
    ]


def _confidence(count: int, series: int) -> float | None:
    """Confidence of each split of `count` values; None if there are too few.

    The looks' shares of the allowed errors, 1 / (points * (points + 1)), add up to 1.
    """
    points = count - 2 * FEWEST + 1
    return decision_confidence(series * points, points * (points + 1)) if points > 0 else None


def _surest_split(logarithms: Values, confidence: float) -> int | None:
    """The split whose interval is furthest from no change; None if all intervals hold that."""
    changes, errors = _splits(logarithms)
    clearances = np.abs(changes) - errors * student_quantile((1 - confidence) / 2, len(logarithms) - 2)
    surest = int(np.argmax(clearances))
    return surest + FEWEST if clearances[surest] > _ROUNDING else None


def _ratio(logarithms: Values, split: int, confidence: float) -> Estimate:
    """Values from `split` on over those before."""
    changes, errors = _splits(logarithms)
    change, error = float(changes[split - FEWEST]), float(errors[split - FEWEST])
    width = min(error * student_quantile((1 - confidence) / 2, len(logarithms) - 2), 300.0)
    return Estimate(math.exp(change), math.exp(change - width), math.exp(change + width))


def _splits(logarithms: Values) -> tuple[Values, Values]:
    """For each split the difference of both means, and its standard error; the spread is the same before and after."""
    count = len(logarithms)
    centred = logarithms - logarithms.mean()
    before = np.arange(FEWEST, count - FEWEST + 1)
    after = count - before
    first, second = (_moments(part)[:, FEWEST - 1 : count - FEWEST] for part in (centred, centred[::-1]))
    (early, early_squares, early_products), (late, late_squares, late_products) = first, second[:, ::-1]
    squares = np.maximum(early_squares + late_squares, 0.0)
    variance = squares / (count - 2) * (1 / before + 1 / after)
    # Residuals of two means correlate by 2 / count too little.
    products = np.divide(early_products + late_products, squares, out=np.zeros_like(squares), where=squares > 0)
    correlation = np.clip(products + 2 / count, 0.0, _MOST_CORRELATION)
    return late - early, np.sqrt(variance * (1 + correlation) / (1 - correlation))


def _moments(values: Values) -> Values:
    """Of the first 1, 2, ... values: mean, sum of squared residuals, sum of products of neighbouring residuals."""
    counts = np.arange(1, len(values) + 1)
    sums = np.cumsum(values)
    means = sums / counts
    squares = np.cumsum(values**2) - counts * means**2
    neighbours = np.concatenate([[0.0], np.cumsum(values[1:] * values[:-1])])
    products = neighbours - means * (2 * sums - values[0] - values) + (counts - 1) * means**2
    return np.array([means, squares, products])

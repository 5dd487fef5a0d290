"""Means and ratios of times with confidence intervals: ratios are paired by round, or of two runs.

Times vary by factors, so intervals are those of Student's t over logarithms, and means are geometric.
"""

import math
from collections.abc import Sequence

import numpy as np

from .estimate import CONFIDENCE, Estimate
from .student import student_quantile


def mean_estimate(times: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """The geometric mean of times, one a round. One round has no interval."""
    logarithms = np.log(times)
    count = len(logarithms)
    error = math.sqrt(logarithms.var(ddof=1) / count) if count > 1 else math.inf
    return _estimate(float(logarithms.mean()), error, count - 1, confidence)


def paired_ratio(
    numerators: Sequence[float], denominators: Sequence[float], confidence: float = CONFIDENCE
) -> Estimate:
    """The ratio of two times that were measured in the same rounds. One round has no interval."""
    return mean_estimate(np.divide(numerators, denominators).tolist(), confidence)


def unpaired_ratio(
    numerators: Sequence[float], denominators: Sequence[float], confidence: float = CONFIDENCE
) -> Estimate:
    """The ratio of times of two runs (Welch's test). A run of one round has no interval."""
    above, below = np.log(numerators), np.log(denominators)
    middle = float(above.mean() - below.mean())
    if min(len(above), len(below)) < 2:
        return _estimate(middle, math.inf, 0, confidence)
    variances = [each.var(ddof=1) / len(each) for each in (above, below)]
    parts = [variance**2 / (len(each) - 1) for variance, each in zip(variances, (above, below), strict=True)]
    freedom = sum(variances) ** 2 / sum(parts) if sum(parts) > 0 else min(len(above), len(below)) - 1
    return _estimate(middle, math.sqrt(sum(variances)), float(freedom), confidence)


def _estimate(logarithm: float, error: float, freedom: float, confidence: float) -> Estimate:
    value = math.exp(logarithm)
    if not math.isfinite(error):
        return Estimate(value)
    width = error * student_quantile((1 - confidence) / 2, freedom)
    return Estimate(value, value * math.exp(-width), value * math.exp(min(width, 700)))

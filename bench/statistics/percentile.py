"""Percentiles by MLPerf's rules, and their confidence intervals."""

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .estimate import CONFIDENCE, Estimate
from .ratio import mean_estimate
from .student import student_quantile

_EARLY_STOPPING = 0.99
"""MLPerf's confidence that a percentile is no longer than the longest call."""

_RESAMPLES = 500
_SEED = 0


def percentile(seconds: Sequence[float] | NDArray[np.float64], percent: float) -> float:
    """The value of LoadGen's rank: of n sorted values the one at index int(n * percent / 100); never interpolated."""
    index = int(len(seconds) * (percent / 100))
    return float(np.sort(seconds)[min(index, len(seconds) - 1)])


@functools.cache
def calls_needed(percent: float) -> int:
    """Fewest calls of which the longest is beyond the percentile with 99 % confidence: 459 for the 99th.

    MLPerf's rule of early stopping
    (https://github.com/mlcommons/inference/blob/master/loadgen/early_stopping.md), of which only the count is used.
    """
    return math.ceil(math.log(1 - _EARLY_STOPPING) / math.log(percent / 100))


def percentile_estimate(rounds: Sequence[Sequence[float]], percent: float) -> Estimate:
    """The percentile of the calls of all rounds, by LoadGen's rank, with an interval.

    The interval spans two: a bootstrap over rounds and their calls, which is too narrow for few rounds, and Student's t
    over the logarithms of the rounds' own percentiles, which misses where only some rounds are disturbed.
    `bench/studies/calibration.py` measures how often each holds. A single round has no interval.

    Args:
        rounds: Seconds of the calls, round by round.
        percent: Above 0 and below 100.
    """
    value = percentile(np.concatenate(rounds), percent)
    if len(rounds) < 2:
        return Estimate(value)
    spread = mean_estimate([percentile(each, percent) for each in rounds])
    factors = spread.low / spread.value, spread.high / spread.value
    low, high = _bootstrap(rounds, percent)
    return Estimate(value, min(value * factors[0], low), max(value * factors[1], high))


def _bootstrap(rounds: Sequence[Sequence[float]], percent: float) -> tuple[float, float]:
    """Ends of the interval by resampling rounds and calls, for few rounds further out (Hesterberg, arXiv 1411.5279)."""
    count = len(rounds)
    tail = _normal_tail(math.sqrt(count / (count - 1)) * student_quantile((1 - CONFIDENCE) / 2, count - 1))
    low, high = np.quantile(_resampled(rounds, percent / 100), (tail, 1 - tail), method="inverted_cdf")
    return float(low), float(high)


def _resampled(rounds: Sequence[Sequence[float]], share: float) -> NDArray[np.float64]:
    """The percentile of each resample, float64 [resamples], by bisection among all calls.

    A resample draws as many rounds, and as many calls of each. The share of n drawn calls below a time is nearly normal
    with the variance share * (1 - share) / n.
    """
    sizes = np.array([len(each) for each in rounds], float)
    random = np.random.default_rng(_SEED)
    times = random.multinomial(len(rounds), np.full(len(rounds), 1 / len(rounds)), _RESAMPLES)
    weights = times * sizes / (times @ sizes)[:, None]
    variances = np.divide(weights**2, times * sizes, out=np.zeros_like(weights), where=times > 0)
    noise = random.standard_normal(_RESAMPLES)
    ordered = [np.sort(each) for each in rounds]
    calls = np.sort(np.concatenate(ordered))
    first, last = np.zeros(_RESAMPLES, int), np.full(_RESAMPLES, len(calls) - 1)
    while (first < last).any():
        middle = (first + last) // 2
        below = np.array([np.searchsorted(each, calls[middle], "right") / len(each) for each in ordered]).T
        reached = (weights * below).sum(axis=1) + noise * np.sqrt((variances * below * (1 - below)).sum(axis=1))
        first, last = np.where(reached < share, middle + 1, first), np.where(reached < share, last, middle)
    found: NDArray[np.float64] = calls[first]
    return found


def _normal_tail(value: float) -> float:
    """Probability of a standard normal number beyond `value`."""
    return math.erfc(value / math.sqrt(2)) / 2

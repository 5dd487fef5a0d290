"""Quantiles of Student's t distribution in numpy, so that a benchmark needs no library of statistics."""

import functools
import math

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_STEPS = 100


@functools.cache
def student_quantile(tail: float, freedom: float) -> float:
    """The value that is exceeded with probability `tail`.

    Args:
        tail: Probability, above 0 and at most 0.5.
        freedom: Degrees of freedom, 1 or more.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(_STEPS):  # bisection of the angle, whose cotangent is the value
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(middle, freedom) < tail else (low, middle)
    return math.sqrt(freedom) / math.tan((low + high) / 2)


def _tail(angle: float, freedom: float) -> float:
    """Probability of more than sqrt(freedom) / tan(angle): sin^(freedom - 1) up to the angle, as a share."""
    return _integral(angle, freedom - 1) / _integral(math.pi / 2, freedom - 1) / 2


def _integral(angle: float, power: float) -> float:
    """Integral of sin^power from 0 to `angle`, by Gauss and Legendre."""
    return float(_WEIGHTS @ np.sin((_NODES + 1) * angle / 2) ** power) * angle / 2

"""Percentiles by MLPerf's rule."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def percentile(seconds: Sequence[float] | NDArray[np.float64], percent: float) -> float:
    """The value that `percent` of the values do not exceed; always one of them, never interpolated."""
    index = int(len(seconds) * (percent / 100))
    return float(np.sort(seconds)[min(index, len(seconds) - 1)])

"""Durations of keystrokes, counted so that memory does not grow with their number."""

import math
from collections import Counter
from typing import final

_STEP = math.log(1.01)
_SHORTEST_SECONDS = 1e-9


@final
class Latencies:
    """Durations in steps of 1 %."""

    def __init__(self) -> None:
        self._steps: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self._steps[round(math.log(max(seconds, _SHORTEST_SECONDS)) / _STEP)] += 1

    def percentile_ms(self, percent: float) -> float:
        """Milliseconds, to 0.5 %, that `percent` of the durations do not exceed; 0 if there are none."""
        left = min(int(self._steps.total() * percent / 100), self._steps.total() - 1)
        for step in sorted(self._steps):
            left -= self._steps[step]
            if left < 0:
                return 1e3 * math.exp(step * _STEP)
        return 0.0

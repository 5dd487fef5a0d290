"""An estimate with its confidence interval."""

import math
from dataclasses import dataclass
from typing import final

CONFIDENCE = 0.95
"""Confidence of the intervals that are shown."""


@final
@dataclass(frozen=True)
class Estimate:
    """A positive number and the interval that holds the true one with some confidence.

    Attributes:
        value: The best guess.
        low: Lower end; 0 where too little was measured.
        high: Upper end; infinity where too little was measured.
    """

    value: float
    low: float = 0.0
    high: float = math.inf

    @property
    def is_bounded(self) -> bool:
        """Whether enough was measured for an interval."""
        return math.isfinite(self.high)

    @property
    def uncertainty(self) -> float | None:
        """The larger distance of an end from the value, relative to the value; None without an interval."""
        return max(self.high / self.value, self.value / self.low) - 1 if self.is_bounded and self.low > 0 else None

    def to_json(self) -> dict[str, float | None]:
        """The number and both ends, ready for JSON; the ends are None without an interval."""
        low, high = (self.low, self.high) if self.is_bounded else (None, None)
        return {"value": self.value, "low": low, "high": high}

"""Times of one runtime in one scenario: every call of every round, and the figures made of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np

from .scenario import Scenario

UNSTABLE_SPREAD = 0.1
SHORT_SECONDS = 1e-3
_PERCENTILES = (50, 95, 99)


@final
@dataclass(frozen=True)
class Round:
    """What one process measured.

    Attributes:
        call_seconds: Of every call, in the order in which they were made; nothing is left out.
        peak_bytes: Largest resident set of the process meanwhile; None where the system does not tell.
        requests_per_second: What a server answered; None where calls follow each other.
        invalid_reasons: Why a server's run is not valid.
        warnings: What makes it doubtful all the same.
    """

    call_seconds: Sequence[float]
    peak_bytes: int | None = None
    requests_per_second: float | None = None
    invalid_reasons: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def median(self) -> float:
        """Median seconds of a call."""
        return float(np.median(self.call_seconds))

    @property
    def fence(self) -> float:
        """The third quartile and one and a half times the quartiles' distance, in seconds (Tukey)."""
        first, third = np.percentile(self.call_seconds, (25, 75))
        return float(third + 1.5 * (third - first))

    @property
    def outliers(self) -> int:
        """Calls that took longer than the fence."""
        return int(np.sum(np.asarray(self.call_seconds) > self.fence))

    def to_json(self) -> dict[str, Any]:
        """All of it, to the nanosecond."""
        return {**asdict(self), "call_seconds": [round(seconds, 9) for seconds in self.call_seconds]}


@final
@dataclass(frozen=True)
class Timing:
    """Times of one runtime in one scenario.

    Attributes:
        runtime: Its name.
        scenario: What it did.
        rounds: The interleaved rounds, each a process of its own.
    """

    runtime: str
    scenario: Scenario
    rounds: Sequence[Round]

    @property
    def medians(self) -> list[float]:
        """Median seconds of a call, round by round."""
        return [found.median for found in self.rounds]

    @property
    def median_seconds(self) -> float:
        """Median of the rounds' medians."""
        return float(np.median(self.medians))

    @property
    def costs(self) -> list[float]:
        """What counts, in seconds, round by round: the median of the calls; of a server their 99th percentile."""
        if self.scenario.kind == "server":
            return [float(np.percentile(found.call_seconds, 99)) for found in self.rounds]
        return self.medians

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens of a call over its median time, or those that a server answered; None where no tokens are counted."""
        answered = [found.requests_per_second for found in self.rounds if found.requests_per_second is not None]
        if answered:
            return float(np.median(answered)) * self.scenario.tokens
        return self.scenario.tokens / self.median_seconds if self.scenario.tokens else None

    @property
    def spread(self) -> float:
        """(slowest - fastest round) / median."""
        return (max(self.medians) - min(self.medians)) / self.median_seconds

    @property
    def longest(self) -> float:
        """Seconds of the slowest call of all rounds."""
        return max(max(found.call_seconds) for found in self.rounds)

    @property
    def outliers(self) -> float:
        """Share of the calls that are outliers of their round."""
        return sum(found.outliers for found in self.rounds) / sum(len(found.call_seconds) for found in self.rounds)

    @property
    def peak_bytes(self) -> int | None:
        """Median over the rounds of the largest resident set; None where it is not known."""
        known = [found.peak_bytes for found in self.rounds if found.peak_bytes is not None]
        return int(np.median(known)) if known else None

    @property
    def invalid_reasons(self) -> list[str]:
        """Why a server's rounds are not valid, each reason once."""
        return list(dict.fromkeys(reason for found in self.rounds for reason in found.invalid_reasons))

    @property
    def warnings(self) -> list[str]:
        """What makes a server's rounds doubtful, each once."""
        return list(dict.fromkeys(warning for found in self.rounds for warning in found.warnings))

    @property
    def is_unstable(self) -> bool:
        """Whether the rounds lie further apart than a tenth of their median."""
        return self.spread > UNSTABLE_SPREAD

    @property
    def is_short(self) -> bool:
        """Whether a call takes less than a millisecond, where clock and interrupts count."""
        return self.median_seconds < SHORT_SECONDS

    def percentile(self, percent: float) -> float | None:
        """Seconds that this share of the calls of all rounds did not exceed; None where so few calls cannot tell.

        One call at least must lie beyond it: the 99th percentile takes 100 calls.
        """
        calls = np.concatenate([found.call_seconds for found in self.rounds])
        if percent > 50 and len(calls) * (100 - percent) < 100:
            return None
        return float(np.percentile(calls, percent))

    def ratios(self, other: "Timing") -> list[float]:
        """How many times faster than `other` in what counts, round by round."""
        return [theirs / ours for ours, theirs in zip(self.costs, other.costs, strict=True)]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Timing":
        """Read what `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: A part is missing, of another type, or no time.
            OptionError: The scenario is none.
        """
        rounds = [Round(**found) for found in value["rounds"]]
        if not rounds or not all(
            found.call_seconds and all(0 < time < math.inf for time in found.call_seconds) for found in rounds
        ):
            raise ValueError(f"{value['runtime']}, {value['scenario']}: there are no times, or some that are none")
        return cls(value["runtime"], Scenario.parse(value["scenario"]), rounds)

    def to_json(self) -> dict[str, Any]:
        """The figures and every measured time, ready for JSON."""
        return {
            "runtime": self.runtime,
            "scenario": str(self.scenario),
            "tokens_per_second": self.tokens_per_second,
            "median_seconds": self.median_seconds,
            "spread": self.spread,
            **{f"p{percent}": self.percentile(percent) for percent in _PERCENTILES},
            "longest": self.longest,
            "outliers": self.outliers,
            "peak_bytes": self.peak_bytes,
            "rounds": [found.to_json() for found in self.rounds],
        }

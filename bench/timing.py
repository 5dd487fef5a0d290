"""Times of one runtime in one scenario: every call of every round, and statistics of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np

from .scenario import Scenario

UNSTABLE_SPREAD = 0.1
SHORT_SECONDS = 1e-3
_PERCENTILES = (50, 95, 99)
_TIMES = ("call_seconds", "bare_seconds")


@final
@dataclass(frozen=True)
class Round:
    """The measurements of one process.

    Attributes:
        call_seconds: Time of every call, in order; no outlier is removed.
        peak_bytes: Peak resident set of the process; None if the system does not report it.
        requests_per_second: Throughput of a server; None for other scenarios.
        invalid_reasons: Why a server's run is not valid.
        warnings: Why a valid run is doubtful.
        bare_seconds: Time of the bare session calls beside each call of an application; empty for other scenarios.
    """

    call_seconds: Sequence[float]
    peak_bytes: int | None = None
    requests_per_second: float | None = None
    invalid_reasons: Sequence[str] = ()
    warnings: Sequence[str] = ()
    bare_seconds: Sequence[float] = ()

    @property
    def median(self) -> float:
        """Median seconds of a call."""
        return float(np.median(self.call_seconds))

    @property
    def bare_median(self) -> float | None:
        """Median seconds of the bare calls; None if there are none."""
        return float(np.median(self.bare_seconds)) if self.bare_seconds else None

    @property
    def fence(self) -> float:
        """Third quartile plus 1.5 interquartile ranges, in seconds (Tukey)."""
        first, third = np.percentile(self.call_seconds, (25, 75))
        return float(third + 1.5 * (third - first))

    @property
    def outliers(self) -> int:
        """Number of calls beyond the fence."""
        return int(np.sum(np.asarray(self.call_seconds) > self.fence))

    def to_json(self) -> dict[str, Any]:
        """The round, ready for JSON, to the nanosecond."""
        times = {name: [round(seconds, 9) for seconds in getattr(self, name)] for name in _TIMES}
        return {**asdict(self), **times}


@final
@dataclass(frozen=True)
class Timing:
    """Times of one runtime in one scenario.

    Attributes:
        runtime: Its name.
        scenario: The scenario.
        rounds: The interleaved rounds, each from one process.
    """

    runtime: str
    scenario: Scenario
    rounds: Sequence[Round]

    @property
    def medians(self) -> list[float]:
        """Median seconds of a call, round by round."""
        return [each.median for each in self.rounds]

    @property
    def median_seconds(self) -> float:
        """Median of the rounds' medians."""
        return float(np.median(self.medians))

    @property
    def costs(self) -> list[float]:
        """Seconds by which runtimes are compared, round by round: the calls' median, a server's 99th percentile."""
        if self.scenario.kind == "server":
            return [float(np.percentile(each.call_seconds, 99)) for each in self.rounds]
        return self.medians

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens of a call over its median time, or a server's throughput; None where no tokens are counted."""
        throughputs = [each.requests_per_second for each in self.rounds if each.requests_per_second is not None]
        if throughputs:
            return float(np.median(throughputs)) * self.scenario.tokens
        return self.scenario.tokens / self.median_seconds if self.scenario.tokens else None

    @property
    def bare_seconds(self) -> float | None:
        """Median of the rounds' medians of the bare calls; None if there are none."""
        medians = [each.bare_median for each in self.rounds if each.bare_median is not None]
        return float(np.median(medians)) if medians else None

    @property
    def bare_ratio(self) -> float | None:
        """A call over the bare calls beside it: the median of the rounds; None if there are none."""
        ratios = [each.median / each.bare_median for each in self.rounds if each.bare_median is not None]
        return float(np.median(ratios)) if ratios else None

    @property
    def spread(self) -> float:
        """(slowest - fastest round) / median."""
        return (max(self.medians) - min(self.medians)) / self.median_seconds

    @property
    def longest(self) -> float:
        """Seconds of the slowest call of all rounds."""
        return max(max(each.call_seconds) for each in self.rounds)

    @property
    def outliers(self) -> float:
        """Share of the calls that are outliers of their round."""
        return sum(each.outliers for each in self.rounds) / sum(len(each.call_seconds) for each in self.rounds)

    @property
    def peak_bytes(self) -> int | None:
        """Median over the rounds of the peak resident set; None if it is not known."""
        peaks = [each.peak_bytes for each in self.rounds if each.peak_bytes is not None]
        return int(np.median(peaks)) if peaks else None

    @property
    def invalid_reasons(self) -> list[str]:
        """Why a server's rounds are not valid, without duplicates."""
        return list(dict.fromkeys(reason for each in self.rounds for reason in each.invalid_reasons))

    @property
    def warnings(self) -> list[str]:
        """Why a server's rounds are doubtful, without duplicates."""
        return list(dict.fromkeys(warning for each in self.rounds for warning in each.warnings))

    @property
    def is_unstable(self) -> bool:
        """Whether the spread of the rounds exceeds a tenth of their median."""
        return self.spread > UNSTABLE_SPREAD

    @property
    def is_short(self) -> bool:
        """Whether a call takes less than a millisecond, so that clock and interrupts matter."""
        return self.median_seconds < SHORT_SECONDS

    def percentile(self, percent: float) -> float | None:
        """Seconds that `percent` of the calls of all rounds do not exceed; None if there are too few calls.

        At least one call must lie beyond it: the 99th percentile takes 100 calls.
        """
        calls = np.concatenate([each.call_seconds for each in self.rounds])
        if percent > 50 and len(calls) * (100 - percent) < 100:
            return None
        return float(np.percentile(calls, percent))

    def ratios(self, other: "Timing") -> list[float]:
        """Speed-up over `other`, round by round."""
        return [theirs / ours for ours, theirs in zip(self.costs, other.costs, strict=True)]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Timing":
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: A part is missing, has another type or is not a time.
            OptionError: The scenario is invalid.
        """
        rounds = [Round(**each) for each in value["rounds"]]
        if not rounds or not all(
            each.call_seconds and all(0 < time < math.inf for time in (*each.call_seconds, *each.bare_seconds))
            for each in rounds
        ):
            raise ValueError(f"{value['runtime']}, {value['scenario']}: a round has no times, or an invalid one")
        return cls(value["runtime"], Scenario.parse(value["scenario"]), rounds)

    def to_json(self) -> dict[str, Any]:
        """The statistics and every measured time, ready for JSON."""
        return {
            "runtime": self.runtime,
            "scenario": str(self.scenario),
            "tokens_per_second": self.tokens_per_second,
            "median_seconds": self.median_seconds,
            "spread": self.spread,
            **{f"p{percent}": self.percentile(percent) for percent in _PERCENTILES},
            "longest": self.longest,
            "outliers": self.outliers,
            "bare_seconds": self.bare_seconds,
            "bare_ratio": self.bare_ratio,
            "peak_bytes": self.peak_bytes,
            "rounds": [each.to_json() for each in self.rounds],
        }

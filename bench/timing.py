"""Times of one runtime in one scenario: every call of every round, and statistics of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, final

import numpy as np

from .scenario import Scenario
from .statistics.estimate import CONFIDENCE, Estimate
from .statistics.percentile import calls_needed, percentile, percentile_estimate
from .statistics.ratio import paired_ratio

UNSTABLE_SPREAD = 0.1
SHORT_SECONDS = 1e-3
_PERCENTILES = (50, 95, 99)
_UNDISTURBED = 0.25
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
        joules: Energy of the processor's packages for a call; None if it was not measured.
    """

    call_seconds: Sequence[float]
    peak_bytes: int | None = None
    requests_per_second: float | None = None
    invalid_reasons: Sequence[str] = ()
    warnings: Sequence[str] = ()
    bare_seconds: Sequence[float] = ()
    joules: float | None = None

    @cached_property
    def median(self) -> float:
        """Median seconds of a call."""
        return float(np.median(self.call_seconds))

    @cached_property
    def undisturbed(self) -> float:
        """First quartile of the seconds of a call: other work on the machine slows calls, it makes none quicker."""
        return float(np.quantile(self.call_seconds, _UNDISTURBED))

    @property
    def bare_undisturbed(self) -> float:
        """The same of the bare calls."""
        return float(np.quantile(self.bare_seconds, _UNDISTURBED))

    @cached_property
    def fence(self) -> float:
        """Third quartile plus 1.5 interquartile ranges, in seconds (Tukey)."""
        first, third = np.percentile(self.call_seconds, (25, 75))
        return float(third + 1.5 * (third - first))

    @cached_property
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

    @cached_property
    def percentiles(self) -> Mapping[int, Estimate]:
        """Seconds that 50, 95 and 99 % of the calls of all rounds do not exceed.

        Those with too few calls are missing: the 95th takes 90, the 99th 459 (`calls_needed`).
        """
        rounds = [each.call_seconds for each in self.rounds]
        calls = sum(map(len, rounds))
        known = [percent for percent in _PERCENTILES if percent == 50 or calls >= calls_needed(percent)]
        return {percent: percentile_estimate(rounds, percent) for percent in known}

    @property
    def median_seconds(self) -> float:
        """Median of the calls of all rounds."""
        return self.percentiles[50].value

    @property
    def tail_seconds(self) -> float | None:
        """The 99th percentile of the calls; None if there are too few."""
        return self.percentiles[99].value if 99 in self.percentiles else None

    @property
    def typical(self) -> list[float]:
        """Seconds by which runtimes are ordered and drawn, round by round: the median, a server's 99th percentile."""
        return self.costs if self.scenario.kind == "server" else self.medians

    @property
    def costs(self) -> list[float]:
        """Seconds by which runtimes are compared, round by round: undisturbed calls, a server's 99th percentile."""
        if self.scenario.kind == "server":
            return [percentile(each.call_seconds, 99) for each in self.rounds]
        return [each.undisturbed for each in self.rounds]

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens of a call over its median time, or a server's throughput; None where no tokens are counted."""
        throughputs = [each.requests_per_second for each in self.rounds if each.requests_per_second is not None]
        if throughputs:
            return float(np.median(throughputs)) * self.scenario.tokens
        return self.scenario.tokens / self.median_seconds if self.scenario.tokens else None

    @property
    def bare_seconds(self) -> float | None:
        """Median of all bare calls; None if there are none."""
        calls = [seconds for each in self.rounds for seconds in each.bare_seconds]
        return float(np.median(calls)) if calls else None

    @property
    def bare_ratio(self) -> Estimate | None:
        """A call over the bare calls beside it, paired by round; None if there are none."""
        if not all(each.bare_seconds for each in self.rounds):
            return None
        return paired_ratio(self.costs, [each.bare_undisturbed for each in self.rounds])

    @property
    def spread(self) -> float:
        """(slowest - fastest round) / median."""
        return (max(self.medians) - min(self.medians)) / float(np.median(self.medians))

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
    def joules_per_token(self) -> float | None:
        """Median over the rounds of the energy for a token; None if it is not known or no tokens are counted."""
        calls = [each.joules for each in self.rounds if each.joules is not None]
        return float(np.median(calls)) / self.scenario.tokens if calls and self.scenario.tokens else None

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

    def speedup(self, other: "Timing", confidence: float = CONFIDENCE) -> Estimate:
        """How many times as fast as `other` it is, paired by round."""
        return paired_ratio(other.costs, self.costs, confidence)

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
            **{f"p{percent}": estimate.to_json() for percent, estimate in self.percentiles.items()},
            "longest": self.longest,
            "outliers": self.outliers,
            "bare_seconds": self.bare_seconds,
            "bare_ratio": None if self.bare_ratio is None else self.bare_ratio.to_json(),
            "peak_bytes": self.peak_bytes,
            "joules_per_token": self.joules_per_token,
            "rounds": [each.to_json() for each in self.rounds],
        }

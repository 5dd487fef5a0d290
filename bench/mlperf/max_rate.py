"""The highest rate of random arrivals that is valid by LoadGen's rules: bracketed, then bisected."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

LEAST_REQUESTS = 600
"""Requests of a probe: LoadGen's early stopping can decide with 459, if none is late."""

_RESOLUTION = 1.05
_LEAST_SECONDS = 2.0
_SHARE = 1 / 60
_EARLY_STOPPING = "Early stopping"


@final
@dataclass(frozen=True)
class Probe:
    """A run at one rate.

    Attributes:
        rate: Requests a second.
        seconds: How long they arrived.
        invalid_reasons: Why it is not valid; empty if it is.
    """

    rate: float
    seconds: float
    invalid_reasons: Sequence[str] = ()

    @property
    def valid(self) -> bool:
        """Whether it is valid."""
        return not self.invalid_reasons

    @property
    def is_undecided(self) -> bool:
        """Whether latencies kept their bound, in too few requests to be sure."""
        unmet = [reason for reason in self.invalid_reasons if reason.endswith("satisfied: NO")]
        return bool(unmet) and all(reason.startswith(_EARLY_STOPPING) for reason in unmet)


Probing = Callable[[float, float], Probe]
"""Called with a rate and seconds."""


@final
@dataclass
class RateSearch:
    """The interval that holds the highest valid rate.

    Attributes:
        highest_valid: None if no rate is valid.
        lowest_invalid: None until one is found.
        probes: All runs, in order.
    """

    highest_valid: float | None = None
    lowest_invalid: float | None = None
    probes: list[Probe] = field(default_factory=list)

    def add(self, probe: Probe) -> None:
        """Narrow the interval. A rate that is not valid rules out the valid ones above it."""
        self.probes.append(probe)
        if not probe.valid:
            self.lowest_invalid = min(probe.rate, self.lowest_invalid or probe.rate)
        valid = [each.rate for each in self.probes if each.valid]
        below = [rate for rate in valid if self.lowest_invalid is None or rate < self.lowest_invalid]
        self.highest_valid = max(below, default=None)


def find_max_rate(probing: Probing, start: float, seconds: float) -> RateSearch:
    """Search from the rate `start`; no probe takes more than `seconds`, in which `LEAST_REQUESTS` must arrive."""
    search, lowest = RateSearch(), LEAST_REQUESTS / seconds
    rate = max(start, lowest)
    while True:
        search.add(_decided(probing, rate, seconds))
        low, high = search.highest_valid, search.lowest_invalid
        if low is None:
            if rate <= lowest:
                return search
            rate = max(rate / 2, lowest)
        elif high is None:
            rate *= 2
        elif high / low <= _RESOLUTION:
            return search
        else:
            rate = (low * high) ** 0.5


def _decided(probing: Probing, rate: float, seconds: float) -> Probe:
    """Run a rate twice as long as long as early stopping alone is not satisfied."""
    duration = min(max(_LEAST_SECONDS, _SHARE * seconds, LEAST_REQUESTS / rate), seconds)
    while True:
        probe = probing(rate, duration)
        if not probe.is_undecided or duration >= seconds:
            return probe
        duration = min(2 * duration, seconds)

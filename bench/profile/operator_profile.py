"""The profile of a call: the time of its operators, without what the profiler itself costs."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, final

import numpy as np

from ..errors import BenchError
from ..scenario import Scenario
from .kinds import KINDS, OUTSIDE
from .span import Key, Span, Tally, fastest_quarter

_CERTAIN = 25
"""Percentile of the differences between blocks of calls with and without a profiler: three of four are above it."""

_UNSTEADY = 0.2
_SLOWED = 2


@final
@dataclass(frozen=True)
class OperatorTime:
    """One operator in a call.

    Attributes:
        operator: The runtime's name of it.
        kind: One of `KINDS`.
        events: How often it runs in a call.
        reported_seconds: Its time in a call as the profiler reports it, without that of its bodies' operators.
        seconds: The same without the profiler's cost, scaled to a call without a profiler.
    """

    operator: str
    kind: str
    events: float
    reported_seconds: float
    seconds: float


@final
@dataclass(frozen=True)
class OperatorProfile:
    """Where the time of a runtime's fastest calls in a scenario goes.

    Attributes:
        runtime: Its name.
        scenario: The scenario.
        seconds: Time of a call without a profiler.
        profiled_seconds: Time of a call with it.
        calls: Number of profiled calls.
        event_seconds: What the profiler costs for each event.
        scale: A call without a profiler over a profiled one without the profiler's cost; 1 on a steady machine.
        operators: The operators, slowest first.
    """

    runtime: str
    scenario: Scenario
    seconds: float
    profiled_seconds: float
    calls: int
    event_seconds: float
    scale: float
    operators: Sequence[OperatorTime]

    @classmethod
    def of(
        cls,
        runtime: str,
        scenario: Scenario,
        seconds: Sequence[Sequence[float]],
        profiled_seconds: Sequence[Sequence[float]],
        spans: Sequence[Span],
    ) -> "OperatorProfile":
        """The profile of calls with and without a profiler, in blocks that alternate: of the fastest quarter of each.

        An event costs time inside its own duration, at most that of the cheapest operator, and outside of it. The sum
        is how much longer the fastest calls of three of four blocks take with the profiler.

        Args:
            runtime: Name of the runtime.
            scenario: The scenario.
            seconds: Times of calls without a profiler, in blocks.
            profiled_seconds: Times of calls with one, in as many blocks.
            spans: What it reports about them.

        Raises:
            BenchError: A time is negative, or the operators take longer than the call: the clock jumped.
        """
        whole, plain, profiled = Span.fastest(spans), _steady(seconds), _steady(profiled_seconds)
        call = whole.seconds / whole.calls
        reported = {key: tally.a_call(whole.calls) for key, tally in whole.tallies.by_operator.items()}
        outside = call - sum(tally.seconds for tally in reported.values())
        _require_times(plain, call, outside, reported)
        events = sum(tally.events for tally in reported.values())
        outermost = events - sum(tally.nested for tally in reported.values())
        overhead = min(_overhead(seconds, profiled_seconds), max(call - plain, 0.0))
        cost = _EventCost.of(overhead / max(events, 1), outside / max(outermost, 1), reported)
        own = {key: cost.without(tally) for key, tally in reported.items()}
        total = sum(own.values()) + outside - outermost * cost.outer
        operators = [
            OperatorTime(*key, tally.events, tally.seconds, own[key] * plain / total) for key, tally in reported.items()
        ]
        operators.sort(key=lambda operator: -operator.seconds)
        scale = plain / total * call / profiled
        calls = sum(span.calls for span in spans)
        return cls(runtime, scenario, plain, profiled, calls, cost.inner + cost.outer, scale, operators)

    @property
    def outside_seconds(self) -> float:
        """Time of a call outside its operators."""
        return max(self.seconds - sum(operator.seconds for operator in self.operators), 0.0)

    @property
    def kinds(self) -> dict[str, float]:
        """Seconds of each kind of work in a call, in the order of `KINDS`; their sum is the call."""
        sums = dict.fromkeys(KINDS, 0.0)
        for operator in self.operators:
            sums[operator.kind] += operator.seconds
        sums[OUTSIDE] = self.outside_seconds
        return {kind: seconds for kind, seconds in sums.items() if seconds > 0}

    @property
    def is_slowed(self) -> bool:
        """Whether the profiler doubles a call or more."""
        return self.profiled_seconds > _SLOWED * self.seconds

    @property
    def is_unsteady(self) -> bool:
        """Whether calls with the profiler take another time than those without it, even without its cost."""
        return abs(1 / self.scale - 1) > _UNSTEADY

    def to_json(self) -> dict[str, Any]:
        """The profile, ready for JSON."""
        facts = asdict(self) | {"scenario": str(self.scenario)}
        return facts | {"outside_seconds": self.outside_seconds, "kinds": self.kinds}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], runtime: str) -> "OperatorProfile":
        """Read what `to_json` wrote."""
        names = [field.name for field in fields(cls) if field.name in value]
        read = {"runtime": runtime, "scenario": Scenario.parse(value["scenario"])}
        read["operators"] = [OperatorTime(**operator) for operator in value["operators"]]
        return cls(**{name: value[name] for name in names} | read)


@final
@dataclass(frozen=True)
class _EventCost:
    """Seconds that a profiler takes for an event, inside the event's own duration and outside of it."""

    inner: float
    outer: float

    @classmethod
    def of(cls, event: float, most_outer: float, reported: Mapping[Key, Tally]) -> "_EventCost":
        """The parts of an event's cost, with which neither an operator nor the rest of the call gets negative."""
        cheapest = min((tally.seconds / tally.events for tally in reported.values() if not tally.nested), default=0.0)
        inner = min(event, cheapest)
        return cls(inner, min(event - inner, most_outer))

    def without(self, tally: Tally) -> float:
        """The seconds of an operator without the cost of its events and of those directly inside it."""
        return max(tally.seconds - tally.events * self.inner - tally.nested * self.outer, 0.0)


def _require_times(plain: float, profiled: float, outside: float, reported: Mapping[Key, Tally]) -> None:
    """Raise BenchError for times that no steady clock gives."""
    shown = {"a call": plain, "a call with the profiler": profiled}
    shown |= {operator: tally.seconds for (operator, _), tally in reported.items()}
    shown["what is outside the operators"] = outside
    for name, seconds in shown.items():
        if not 0 <= seconds < math.inf:
            raise BenchError(f"{name} took {1e6 * seconds:,.1f} us: the clock jumped during the profile; measure again")


def _steady(blocks: Sequence[Sequence[float]]) -> float:
    """The mean of the fastest quarter of the calls of all blocks."""
    return float(np.mean(fastest_quarter(sorted(itertools.chain(*blocks)))))


def _overhead(seconds: Sequence[Sequence[float]], profiled: Sequence[Sequence[float]]) -> float:
    """How much longer a call certainly takes with the profiler; 0 at least."""
    pairs = zip(seconds, profiled, strict=True)
    differences = [min(under) - min(plain) for plain, under in pairs]
    return float(max(np.percentile(differences, _CERTAIN), 0.0))

"""What results say about what to ship: the fastest runtime of each scenario, and the best within a latency."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from .results import Results
from .scenario import Scenario
from .timing import Timing

_STEPS = ("single-stream", "multi-stream")


@final
@dataclass(frozen=True)
class Verdict:
    """The fastest of a scenario.

    Attributes:
        fastest: Of all runtimes.
        lead: How many times faster than the second one, round by round; None where there is no second one.
        second: The second one.
        invariant: The fastest of those that are known to be batch-invariant; None where there are none.
    """

    fastest: Timing
    second: Timing | None
    lead: Sequence[float] | None
    invariant: Timing | None

    @property
    def scenario(self) -> Scenario:
        """What was timed."""
        return self.fastest.scenario

    @property
    def is_clear(self) -> bool:
        """Whether it was the faster one in every round."""
        return self.lead is None or min(self.lead) > 1


def verdicts(results: Results) -> list[Verdict]:
    """One for each scenario in which a valid time was measured."""
    ranked = [
        [timing for timing in ranking(results, scenario) if not timing.invalid_reasons]
        for scenario in results.scenarios
    ]
    return [_verdict(results, timings) for timings in ranked if timings]


def ranking(results: Results, scenario: Scenario) -> list[Timing]:
    """The timings in a scenario, the fastest first; a server whose rounds are not valid comes after all that are."""

    def key(timing: Timing) -> tuple[bool, float]:
        return bool(timing.invalid_reasons), float(np.median(timing.costs))

    return sorted(results.of(scenario), key=key)


def is_invariant(results: Results, runtime: str) -> bool | None:
    """Whether neighbours in a batch and chunking change nothing of what it computes; None where that is not known."""
    known: bool | None = results.parity.get(runtime, {}).get("batch_invariant")
    return known


def step_timings(results: Results) -> list[Timing]:
    """Calls of one token a stream, by runtime and rising batch: a runtime's sweep over batches, else its scenarios."""
    found: dict[str, list[Timing]] = {runtime: [] for runtime in results.runtimes}
    for timing in results.timings:
        if timing.scenario.kind in _STEPS:
            found[timing.runtime].append(timing)
    for sweep in results.sweeps:
        if sweep.axis == "batch":
            found |= {runtime: list(timings.values()) for runtime, timings in sweep.timings.items()}
    return [timing for timings in found.values() for timing in sorted(timings, key=lambda one: one.scenario.batch_size)]


def frontier(timings: Iterable[Timing]) -> list[Timing]:
    """The timings that none beats in both the 99th percentile of a call and tokens per second; both rise.

    Those of too few calls for that percentile are left out.
    """
    best: list[Timing] = []
    known = [(tail, timing) for timing in timings if (tail := timing.percentile(99)) is not None]
    for _, timing in sorted(known, key=lambda item: (item[0], -_speed(item[1]))):
        if not best or _speed(timing) > _speed(best[-1]):
            best.append(timing)
    return best


def most_often(results: Results, chosen: Callable[[Verdict], Timing | None]) -> tuple[str, list[Timing]] | None:
    """The runtime that is chosen in most scenarios, and its timings there; None where none ever is."""
    winners: dict[str, list[Timing]] = {}
    for verdict in verdicts(results):
        timing = chosen(verdict)
        if timing is not None:
            winners.setdefault(timing.runtime, []).append(timing)
    return max(winners.items(), key=lambda item: len(item[1]), default=None)


def _verdict(results: Results, ranked: Sequence[Timing]) -> Verdict:
    second = ranked[1] if len(ranked) > 1 else None
    lead = None
    if second is not None:
        lead = [theirs / ours for ours, theirs in zip(ranked[0].costs, second.costs, strict=True)]
    invariant = next((timing for timing in ranked if is_invariant(results, timing.runtime)), None)
    return Verdict(ranked[0], second, lead, invariant)


def _speed(timing: Timing) -> float:
    return timing.tokens_per_second or 0.0

"""Which runtime to ship: the fastest of each scenario, and the best throughput within a latency."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from .results import Results
from .scenario import Scenario
from .statistics.decision import decision_confidence
from .statistics.estimate import Estimate
from .timing import Timing

_STEPS = ("single-stream", "multi-stream")


@final
@dataclass(frozen=True)
class Verdict:
    """The fastest runtimes of a scenario.

    Attributes:
        fastest: The shortest time (`Timing.typical`).
        second: The second fastest; None if there is only one.
        lead: Speed-up of the fastest over the second; None if there is only one.
        rivals: Others that may be as fast, by the rule of `decision_confidence`; if there are any, it is too close to
            call.
        invariant: The fastest of those known to be batch-invariant; None if there are none.
    """

    fastest: Timing
    second: Timing | None
    lead: Estimate | None
    rivals: Sequence[Timing]
    invariant: Timing | None

    @property
    def scenario(self) -> Scenario:
        """The scenario."""
        return self.fastest.scenario

    @property
    def is_clear(self) -> bool:
        """Whether the fastest is faster than each other."""
        return not self.rivals


def verdicts(results: Results) -> list[Verdict]:
    """One verdict for each scenario with a valid time."""
    ranked = [
        [timing for timing in ranking(results, scenario) if not timing.invalid_reasons]
        for scenario in results.scenarios
    ]
    confidence = decision_confidence(sum(max(len(timings) - 1, 0) for timings in ranked), len(results.looks))
    return [_verdict(results, timings, confidence) for timings in ranked if timings]


def _verdict(results: Results, ranked: Sequence[Timing], confidence: float) -> Verdict:
    fastest, *others = ranked
    rivals = [timing for timing in others if fastest.speedup(timing, confidence).low <= 1]
    lead = fastest.speedup(others[0]) if others else None
    invariant = next((timing for timing in ranked if is_invariant(results, timing.runtime)), None)
    return Verdict(fastest, others[0] if others else None, lead, rivals, invariant)


def ranking(results: Results, scenario: Scenario) -> list[Timing]:
    """The timings of a scenario, fastest first; servers with invalid rounds come last."""

    def key(timing: Timing) -> tuple[bool, float]:
        return bool(timing.invalid_reasons), float(np.median(timing.typical))

    return sorted(results.of(scenario), key=key)


def is_invariant(results: Results, runtime: str) -> bool | None:
    """Whether batching and chunking leave a stream's results unchanged to the bit; None if not known."""
    known: bool | None = results.parity.get(runtime, {}).get("batch_invariant")
    return known


def step_timings(results: Results) -> list[Timing]:
    """Timings of one-step calls by runtime and batch: those of a sweep over batches, else those of the scenarios."""
    steps: dict[str, list[Timing]] = {runtime: [] for runtime in results.runtimes}
    for timing in results.timings:
        if timing.scenario.kind in _STEPS:
            steps[timing.runtime].append(timing)
    for sweep in results.sweeps:
        if sweep.axis == "batch":
            steps |= {runtime: list(timings.values()) for runtime, timings in sweep.timings.items()}
    ordered = (sorted(timings, key=lambda timing: timing.scenario.batch_size) for timings in steps.values())
    return [timing for timings in ordered for timing in timings]


def frontier(timings: Iterable[Timing]) -> list[Timing]:
    """The Pareto frontier of 99th percentile and tokens per second; both rise.

    Timings with too few calls for the percentile are left out.
    """
    best: list[Timing] = []
    known = [(tail, timing) for timing in timings if (tail := timing.tail_seconds) is not None]
    for _, timing in sorted(known, key=lambda item: (item[0], -_speed(item[1]))):
        if not best or _speed(timing) > _speed(best[-1]):
            best.append(timing)
    return best


def _speed(timing: Timing) -> float:
    return timing.tokens_per_second or 0.0


def most_often(
    decided: Iterable[Verdict], choose: Callable[[Verdict], Timing | None]
) -> tuple[str, list[Timing]] | None:
    """The runtime that `choose` takes in most scenarios, and its timings there; None if it never takes one."""
    winners: dict[str, list[Timing]] = {}
    for verdict in decided:
        timing = choose(verdict)
        if timing is not None:
            winners.setdefault(timing.runtime, []).append(timing)
    return max(winners.items(), key=lambda item: len(item[1]), default=None)

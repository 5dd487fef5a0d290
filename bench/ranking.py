"""Which runtime to ship: the fastest of each scenario, and the best throughput within a latency."""

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
    """The fastest runtimes of a scenario.

    Attributes:
        second: The second fastest; None if there is only one.
        lead: Speed-up of the fastest over the second, round by round; None if there is only one.
        invariant: The fastest of those known to be batch-invariant; None if there are none.
    """

    fastest: Timing
    second: Timing | None
    lead: Sequence[float] | None
    invariant: Timing | None

    @property
    def scenario(self) -> Scenario:
        """The scenario."""
        return self.fastest.scenario

    @property
    def is_clear(self) -> bool:
        """Whether the fastest won every round."""
        return self.lead is None or min(self.lead) > 1


def verdicts(results: Results) -> list[Verdict]:
    """One verdict for each scenario with a valid time."""
    ranked = [
        [timing for timing in ranking(results, scenario) if not timing.invalid_reasons]
        for scenario in results.scenarios
    ]
    return [_verdict(results, timings) for timings in ranked if timings]


def _verdict(results: Results, ranked: Sequence[Timing]) -> Verdict:
    fastest, second = ranked[0], ranked[1] if len(ranked) > 1 else None
    lead = None if second is None else fastest.ratios(second)
    invariant = next((timing for timing in ranked if is_invariant(results, timing.runtime)), None)
    return Verdict(fastest, second, lead, invariant)


def ranking(results: Results, scenario: Scenario) -> list[Timing]:
    """The timings of a scenario, fastest first; servers with invalid rounds come last."""

    def key(timing: Timing) -> tuple[bool, float]:
        return bool(timing.invalid_reasons), float(np.median(timing.costs))

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
    known = [(tail, timing) for timing in timings if (tail := timing.percentile(99)) is not None]
    for _, timing in sorted(known, key=lambda item: (item[0], -_speed(item[1]))):
        if not best or _speed(timing) > _speed(best[-1]):
            best.append(timing)
    return best


def _speed(timing: Timing) -> float:
    return timing.tokens_per_second or 0.0


def most_often(results: Results, choose: Callable[[Verdict], Timing | None]) -> tuple[str, list[Timing]] | None:
    """The runtime that `choose` takes in most scenarios, and its timings there; None if it never takes one."""
    winners: dict[str, list[Timing]] = {}
    for verdict in verdicts(results):
        timing = choose(verdict)
        if timing is not None:
            winners.setdefault(timing.runtime, []).append(timing)
    return max(winners.items(), key=lambda item: len(item[1]), default=None)

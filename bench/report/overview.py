"""The report's first screen: cards of the best runtimes, and matrices of all runtimes in all scenarios."""

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from ..ranking import is_invariant, most_often, verdicts
from ..regression.comparison import Change, Comparison
from ..results import Results
from ..scenario import Scenario
from ..timing import Timing
from .charts import shown_seconds

_SHADES = (1.05, 1.5, 2.5, 4, 8)


@final
@dataclass(frozen=True)
class Card:
    """A title, the runtime that it goes to, and facts for and against that runtime."""

    title: str
    name: str
    lines: Sequence[str]


def cards(results: Results) -> list[Card]:
    """The runtimes that win most scenarios, and those with the shortest tail and the least memory."""
    return [*_winners(results), *_tail(results), *_memory(results)]


@final
@dataclass(frozen=True)
class Cell:
    """A runtime in a scenario: its shade, its figure (empty if not measured), and whether it is slower than allowed."""

    shade: int
    text: str
    is_refused: bool = False


@final
@dataclass(frozen=True)
class Matrix:
    """A row of cells for each runtime, a column for each scenario."""

    scenarios: Sequence[Scenario]
    rows: Sequence[tuple[str, Sequence[Cell]]]


def speedup_matrix(results: Results) -> Matrix:
    """Speed-ups over the baseline."""
    measured = {(timing.runtime, timing.scenario) for timing in results.timings}

    def cell(runtime: str, scenario: Scenario) -> Cell:
        speedup = results.speedup(runtime, scenario) if (runtime, scenario) in measured else None
        return Cell(0, "") if speedup is None else Cell(shade(speedup.value), f"{speedup.value:.2f}")

    scenarios = results.scenarios
    return Matrix(scenarios, [(name, [cell(name, scenario) for scenario in scenarios]) for name in results.runtimes])


def change_matrix(comparison: Comparison) -> Matrix:
    """Relative changes of the times."""
    changes = {(change.runtime, change.scenario): change for change in comparison.changes}

    def cell(change: Change | None) -> Cell:
        if change is None:
            return Cell(0, "")
        return Cell(shade(1 / change.ratio.value), f"{change.slower:+.1%}", comparison.is_slower(change))

    scenarios = list(dict.fromkeys(scenario for _, scenario in changes))
    runtimes = dict.fromkeys(runtime for runtime, _ in changes)
    return Matrix(
        scenarios, [(name, [cell(changes.get((name, scenario))) for scenario in scenarios]) for name in runtimes]
    )


def shade(speedup: float) -> int:
    """From -5, much slower, over 0, as fast, to 5, much faster."""
    return bisect(_SHADES, speedup) if speedup >= 1 else -bisect(_SHADES, 1 / speedup)


def perplexity_change(results: Results, runtime: str) -> str:
    """The relative change of the perplexity as text; the original has no parity report."""
    report = results.parity.get(runtime)
    return "the original" if report is None else share(report["perplexity_change"])


def share(value: float | None) -> str:
    """A change in percent; None stands for NaN or infinity."""
    return "not finite" if value is None or not math.isfinite(value) else f"{value:+.3%}"


def _winners(results: Results) -> list[Card]:
    decided = verdicts(results)
    count = len(decided)
    winners = []
    for title, choice in (
        ("Fastest", most_often(decided, lambda verdict: verdict.fastest)),
        ("Fastest batch-invariant", most_often(decided, lambda verdict: verdict.invariant)),
    ):
        if choice is not None:
            name, timings = choice
            lines = [*_speedups(results, name, timings), *_quality(results, name)]
            winners.append(Card(f"{title} in {len(timings)} of {count} scenario{'s' * (count > 1)}", name, lines))
    return winners


def _tail(results: Results) -> list[Card]:
    known = [(tail, timing) for timing in _single_stream(results) if (tail := timing.tail_seconds) is not None]
    if not known:
        return []
    tail, best = min(known, key=lambda item: item[0])
    lines = [f"{shown_seconds(tail)} at the 99th percentile", f"one {results.unit} of one stream"]
    return [Card("Shortest tail of a step", best.runtime, lines)]


def _memory(results: Results) -> list[Card]:
    known = [(timing.peak_bytes, timing) for timing in _single_stream(results) if timing.peak_bytes is not None]
    if not known:
        return []
    size, least = min(known, key=lambda item: item[0])
    return [Card("Least memory", least.runtime, [f"{size / 1e6:,.0f} MB, the whole process", "one stream"])]


def _single_stream(results: Results) -> list[Timing]:
    return [timing for timing in results.timings if timing.scenario.kind == "single-stream"]


def _speedups(results: Results, name: str, timings: Sequence[Timing]) -> list[str]:
    speedups = [results.speedup(timing.runtime, timing.scenario) for timing in timings]
    known = [speedup.value for speedup in speedups if speedup is not None]
    if not known or name == results.baseline:
        return []
    low, high = f"{min(known):.2f}x", f"{max(known):.2f}x"
    return [f"{low if low == high else f'{low} to {high}'} {results.baseline}"]


def _quality(results: Results, name: str) -> list[str]:
    is_judged = "perplexity_change" in results.parity.get(name, {})
    lines = [f"perplexity {perplexity_change(results, name)}"] if is_judged else []
    if is_invariant(results, name) is False:
        lines.append("not batch-invariant: numbers depend on neighbours")
    return lines

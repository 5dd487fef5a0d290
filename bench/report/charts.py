"""Charts of the report: a bar and a strip of calls for each runtime in a scenario; lines for sweeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from ..ranking import frontier, is_invariant, ranking, step_timings
from ..results import Results
from ..scenario import Scenario
from ..sweep import AXES, Sweep
from ..timing import Timing
from .svg import Bar, Plot, Scale, Strip, Tick, bar, plot, strip
from .text import format_seconds, format_speedup

DOTS = 180
"""Most ordinary calls in a runtime's strip; all outliers are drawn too."""

_TICKS = 4
_STRIP_TICKS = 7


@final
@dataclass(frozen=True)
class Row:
    """One runtime in a scenario; `speed` and `speedup` are text."""

    timing: Timing
    speed: str
    speedup: str
    bar: Bar
    strip: Strip


@final
@dataclass(frozen=True)
class Panel:
    """The charts of one scenario: rows are fastest first, ticks are percent of the width with a text."""

    scenario: Scenario
    unit: str
    rows: Sequence[Row]
    bar_ticks: Sequence[tuple[float, str]]
    strip_ticks: Sequence[tuple[float, str]]

    @property
    def invalid_reasons(self) -> list[str]:
        """Why a server's rounds are invalid, for each runtime."""
        timings = [row.timing for row in self.rows]
        return [f"{timing.runtime}: {' '.join(reasons)}" for timing in timings if (reasons := timing.invalid_reasons)]

    @property
    def warnings(self) -> list[str]:
        """Why a server's rounds are doubtful, for each runtime."""
        return [f"{row.timing.runtime}: {warning}" for row in self.rows for warning in row.timing.warnings[:1]]

    @property
    def summary(self) -> str:
        """The bars as text, for screen readers."""
        return f"{self.unit}: " + "; ".join(f"{row.timing.runtime} {row.speed}" for row in self.rows)


def panel(results: Results, scenario: Scenario) -> Panel:
    """The charts of a scenario."""
    timings = ranking(results, scenario)
    values = {timing.runtime: [_value(timing, cost) for cost in timing.typical] for timing in timings}
    bars = Scale.from_zero(value for timing in timings for value in [_middle(timing), *values[timing.runtime]])
    calls = Scale.over(seconds for timing in timings for each in timing.rounds for seconds in each.call_seconds)
    rows = [
        Row(
            timing,
            shown_speed(timing, results.unit),
            format_speedup(results, timing),
            bar(_middle(timing), values[timing.runtime], bars),
            strip(timing, calls, DOTS),
        )
        for timing in timings
    ]
    return Panel(
        scenario,
        _bar_title(scenario, results.unit),
        rows,
        [
            (100 * bars.place(value), _count(value) if _counts_tokens(scenario) else _mark(value))
            for value in bars.ticks(_TICKS)
        ],
        [(100 * calls.place(value), _mark(value)) for value in calls.ticks(_STRIP_TICKS)],
    )


@final
@dataclass(frozen=True)
class Lines:
    """A plot of lines with the titles of its axes and the texts of their ticks."""

    plot: Plot
    x_title: str
    y_title: str
    x_texts: Sequence[tuple[Tick, str]]
    y_texts: Sequence[tuple[Tick, str]]


def sweep_lines(sweep: Sweep) -> Lines:
    """Microseconds per token along a sweep's axis, a line for each runtime."""
    points = {
        runtime: [(float(value), 1e6 * seconds) for value, seconds in sweep.seconds_per_token(runtime).items()]
        for runtime in sweep.timings
    }
    drawn = plot(points, [float(value) for value in sweep.values])
    return Lines(
        drawn,
        AXES[sweep.axis],
        "microseconds per token",
        [(tick, _count(tick.value)) for tick in drawn.x_ticks],
        [(tick, _count(tick.value)) for tick in drawn.y_ticks],
    )


@final
@dataclass(frozen=True)
class Tradeoff:
    """Throughput against latency over the batches.

    Attributes:
        steps: Timings of calls of one token or step, by runtime and batch.
        best: The Pareto frontier.
        invariant: The frontier of batch-invariant runtimes; empty if `best` holds no others.
    """

    lines: Lines
    steps: Sequence[Timing]
    best: Sequence[Timing]
    invariant: Sequence[Timing]


def tradeoff(results: Results) -> Tradeoff | None:
    """The trade-off; None if less than two batches have enough calls for a 99th percentile."""
    steps = [timing for timing in step_timings(results) if timing.tail_seconds is not None]
    if len({timing.scenario.batch_size for timing in steps}) < 2:
        return None
    points: dict[str, list[tuple[float, float]]] = {}
    for timing in steps:
        point = (timing.tail_seconds or 0.0, timing.tokens_per_second or 0.0)
        points.setdefault(timing.runtime, []).append(point)
    drawn = plot(points)
    best = frontier(steps)
    invariant = frontier(timing for timing in steps if is_invariant(results, timing.runtime))
    return Tradeoff(
        Lines(
            drawn,
            "99th percentile of a call",
            f"{results.unit}s per second",
            [(tick, _mark(tick.value)) for tick in drawn.x_ticks],
            [(tick, _count(tick.value)) for tick in drawn.y_ticks],
        ),
        steps,
        best,
        [] if all(is_invariant(results, timing.runtime) for timing in best) else invariant,
    )


def shown_seconds(seconds: float) -> str:
    """Seconds as in the table, with µs in place of us."""
    return typeset(format_seconds(seconds))


def shown_speed(timing: Timing, unit: str) -> str:
    """The text of a timing's bar."""
    value = _middle(timing)
    return f"{value:,.0f} {unit}s/s" if _counts_tokens(timing.scenario) else shown_seconds(value)


def typeset(cell: str) -> str:
    """A cell of the table for the page."""
    text = cell.strip()
    return text.replace(" us", " µs") if text[:1].isdigit() else text


def colors(results: Results) -> Mapping[str, int]:
    """Runtime -> number of its colour on the whole page; the baseline has 0."""
    swept = [runtime for sweep in results.sweeps for runtime in sweep.timings]
    names = dict.fromkeys([results.baseline, *results.runtimes, *swept])
    return {name: index if index == 0 else 1 + (index - 1) % 9 for index, name in enumerate(names)}


def _value(timing: Timing, cost: float) -> float:
    """The length of a bar for a round: tokens per second, or seconds."""
    return timing.scenario.tokens / cost if _counts_tokens(timing.scenario) else cost


def _middle(timing: Timing) -> float:
    """The length of a bar for all rounds."""
    return _value(timing, float(np.median(timing.typical)))


def _counts_tokens(scenario: Scenario) -> bool:
    """Whether tokens per second compare runtimes; a server answers as many as arrive."""
    return scenario.tokens > 0 and scenario.kind != "server"


def _bar_title(scenario: Scenario, unit: str) -> str:
    if scenario.kind == "server":
        return "99th percentile of the latency, shorter is better"
    return f"{unit}s per second, longer is better" if _counts_tokens(scenario) else "seconds, shorter is better"


def _mark(seconds: float) -> str:
    """The text of a tick in seconds."""
    return "0" if seconds == 0 else shown_seconds(seconds).replace(".00 ", " ")


def micro(seconds: float) -> str:
    """Microseconds with three significant digits."""
    return _count(float(f"{1e6 * seconds:.3g}"))


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 and value == round(value) else f"{value:.3g}"

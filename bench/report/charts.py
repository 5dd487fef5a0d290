"""What the report's charts show: for each scenario a bar and a strip of calls for each runtime; lines for sweeps."""

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
"""Ordinary calls that a strip draws of each runtime; outliers come on top, all of them."""

_TICKS = 4
_STRIP_TICKS = 7


@final
@dataclass(frozen=True)
class Row:
    """One runtime in a scenario.

    Attributes:
        timing: What was measured.
        speed: Its value in words: tokens per second, or seconds.
        speedup: Over the baseline, in words.
        bar: Its bar.
        strip: Its calls.
    """

    timing: Timing
    speed: str
    speedup: str
    bar: Bar
    strip: Strip


@final
@dataclass(frozen=True)
class Panel:
    """The charts of one scenario.

    Attributes:
        scenario: It.
        unit: What the bars measure.
        rows: The runtimes, the fastest first.
        bar_ticks: Marks below the bars: percent of their width, and text.
        strip_ticks: Marks below the strips.
    """

    scenario: Scenario
    unit: str
    rows: Sequence[Row]
    bar_ticks: Sequence[tuple[float, str]]
    strip_ticks: Sequence[tuple[float, str]]

    @property
    def invalid_reasons(self) -> list[str]:
        """Why a server's rounds are not valid, runtime by runtime."""
        timings = [row.timing for row in self.rows]
        return [f"{timing.runtime}: {' '.join(reasons)}" for timing in timings if (reasons := timing.invalid_reasons)]

    @property
    def warnings(self) -> list[str]:
        """What makes a server's rounds doubtful, runtime by runtime."""
        return [f"{row.timing.runtime}: {warning}" for row in self.rows for warning in row.timing.warnings[:1]]

    @property
    def summary(self) -> str:
        """The bars in words, for those who do not see them."""
        return f"{self.unit}: " + "; ".join(f"{row.timing.runtime} {row.speed}" for row in self.rows)


def panel(results: Results, scenario: Scenario) -> Panel:
    """Draw a scenario."""
    timings = ranking(results, scenario)
    values = {timing.runtime: [_value(timing, cost) for cost in timing.costs] for timing in timings}
    bars = Scale.from_zero(value for timing in timings for value in [_middle(timing), *values[timing.runtime]])
    calls = Scale.over(seconds for timing in timings for found in timing.rounds for seconds in found.call_seconds)
    rows = [
        Row(
            timing,
            shown_speed(timing),
            format_speedup(results, timing),
            bar(_middle(timing), values[timing.runtime], bars),
            strip(timing, calls, DOTS),
        )
        for timing in timings
    ]
    return Panel(
        scenario,
        _unit(scenario),
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
    """A plot of lines with what its axes say.

    Attributes:
        plot: It.
        x_title: What the horizontal axis shows.
        y_title: What the vertical one shows.
        x_texts: The texts of its marks.
        y_texts: Those of the other one.
    """

    plot: Plot
    x_title: str
    y_title: str
    x_texts: Sequence[tuple[Tick, str]]
    y_texts: Sequence[tuple[Tick, str]]


def sweep_lines(sweep: Sweep) -> Lines:
    """Microseconds per token along the axis, a line for each runtime."""
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
        lines: The plot.
        steps: Calls of one token a stream, by runtime and batch.
        best: Those that none beats in both.
        invariant: The same of the runtimes that are batch-invariant; empty where `best` holds no others.
    """

    lines: Lines
    steps: Sequence[Timing]
    best: Sequence[Timing]
    invariant: Sequence[Timing]


def tradeoff(results: Results) -> Tradeoff | None:
    """Put the batches beside each other; None where there is only one of enough calls for a 99th percentile."""
    steps = [timing for timing in step_timings(results) if timing.percentile(99) is not None]
    if len({timing.scenario.batch_size for timing in steps}) < 2:
        return None
    points: dict[str, list[tuple[float, float]]] = {}
    for timing in steps:
        point = (timing.percentile(99) or 0.0, timing.tokens_per_second or 0.0)
        points.setdefault(timing.runtime, []).append(point)
    drawn = plot(points)
    best = frontier(steps)
    invariant = frontier(timing for timing in steps if is_invariant(results, timing.runtime))
    return Tradeoff(
        Lines(
            drawn,
            "99th percentile of a call",
            "tokens per second",
            [(tick, _mark(tick.value)) for tick in drawn.x_ticks],
            [(tick, _count(tick.value)) for tick in drawn.y_ticks],
        ),
        steps,
        best,
        [] if all(is_invariant(results, timing.runtime) for timing in best) else invariant,
    )


def shown_seconds(seconds: float) -> str:
    """Seconds as the table has them, with the sign for micro that a terminal may lack."""
    return typeset(format_seconds(seconds))


def shown_speed(timing: Timing) -> str:
    """What a timing's bar shows."""
    value = _middle(timing)
    return f"{value:,.0f} tokens/s" if _counts_tokens(timing.scenario) else shown_seconds(value)


def typeset(cell: str) -> str:
    """A cell of the table as a page shows it."""
    text = cell.strip()
    return text.replace(" us", " µs") if text[:1].isdigit() else text


def colors(results: Results) -> Mapping[str, int]:
    """Runtime -> number of its colour, the same everywhere; the baseline, which is the first one, has 0."""
    swept = [runtime for sweep in results.sweeps for runtime in sweep.timings]
    names = dict.fromkeys([results.baseline, *results.runtimes, *swept])
    return {name: index if index == 0 else 1 + (index - 1) % 9 for index, name in enumerate(names)}


def _value(timing: Timing, cost: float) -> float:
    """What a bar shows of a round: tokens per second, or its seconds."""
    return timing.scenario.tokens / cost if _counts_tokens(timing.scenario) else cost


def _middle(timing: Timing) -> float:
    """What a bar shows of all rounds, as the table has it."""
    return _value(timing, float(np.median(timing.costs)))


def _counts_tokens(scenario: Scenario) -> bool:
    """Whether tokens per second tell runtimes apart; those that a server answers are what it is asked."""
    return scenario.tokens > 0 and scenario.kind != "server"


def _unit(scenario: Scenario) -> str:
    if scenario.kind == "server":
        return "99th percentile of the latency, shorter is better"
    return "tokens per second, longer is better" if _counts_tokens(scenario) else "seconds, shorter is better"


def _mark(seconds: float) -> str:
    """Seconds at a mark of an axis, which are round."""
    return "0" if seconds == 0 else shown_seconds(seconds).replace(".00 ", " ")


def micro(seconds: float) -> str:
    """Microseconds, with three digits that count."""
    return _count(float(f"{1e6 * seconds:.3g}"))


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 and value == round(value) else f"{value:.3g}"

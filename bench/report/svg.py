"""Geometry of the report's charts: scales, ticks, and SVG paths of bars, dots and lines.

Bars and strips are drawn in a box of width `WIDTH` that the page stretches to its own width. A dot is a line of length
zero with round ends, which stays round when the box is stretched.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from ..timing import Timing

WIDTH = 1000
"""Width of the box of a bar or a strip."""

BAR_HEIGHT = 18
LANES_HEIGHT = 36
"""Heights of the boxes of a bar and of a strip, in pixels of the page."""

PLOT_WIDTH, PLOT_HEIGHT = 440, 290
"""Size of a plot of lines; the page keeps its aspect ratio."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 24, 40
_TEXT_WIDTH = 34
_STEPS = (1, 2, 5, 10)
_MARKERS = (
    "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
    "m-3.2 -3.2h6.4v6.4h-6.4z",
    "m0 -4.4l4.4 7.6h-8.8z",
    "m0 -4.6l4.6 4.6l-4.6 4.6l-4.6 -4.6z",
    "m0 4.4l4.4 -7.6h-8.8z",
)
_TURN = (math.sqrt(5) - 1) / 2


@final
@dataclass(frozen=True)
class Scale:
    """The scale of an axis that starts at `low` and ends at `high`."""

    low: float
    high: float
    logarithmic: bool = False

    @classmethod
    def from_zero(cls, values: Iterable[float]) -> "Scale":
        """A linear scale from 0 to the largest value."""
        return cls(0.0, max(values, default=0.0) or 1.0)

    @classmethod
    def over(cls, values: Iterable[float]) -> "Scale":
        """A logarithmic scale around all positive values, from a round number to a round number."""
        positive = [value for value in values if value > 0] or [1.0]
        low, high = _round_down(min(positive)), _round_up(max(positive))
        return cls(low, high if high > low else 2 * low, logarithmic=True)

    def place(self, value: float) -> float:
        """The position of a value, from 0 to 1."""
        if not self.logarithmic:
            return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        if value <= self.low:
            return 0.0
        return min(math.log(value / self.low) / math.log(self.high / self.low), 1.0)

    def ticks(self, most: int) -> list[float]:
        """At most `most` round values, rising."""
        return self._powers(most) if self.logarithmic else self._multiples(most)

    def _multiples(self, most: int) -> list[float]:
        rough = (self.high - self.low) / most
        step = _round_up(rough)
        first = math.ceil(self.low / step)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)][:most]

    def _powers(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for steps in (_STEPS[:-1], (1, 3), (1,)):
            ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
            inside = [tick for tick in ticks if self.low * (1 - 1e-9) <= tick <= self.high * (1 + 1e-9)]
            if len(inside) <= most:
                return inside
        return inside[:: math.ceil(len(inside) / most)]


@final
@dataclass(frozen=True)
class Bar:
    """A bar from 0, the range over the rounds, and the path of a dot for each round, in units of `WIDTH`."""

    width: float
    low: float
    high: float
    dots: str


def bar(value: float, rounds: Sequence[float], scale: Scale) -> Bar:
    """The bar of a value and of the values of its rounds."""
    places = [_x(scale, each) for each in rounds]
    return Bar(_x(scale, value), min(places), max(places), dots((place, BAR_HEIGHT / 2) for place in places))


@final
@dataclass(frozen=True)
class Part:
    """A part of a stacked bar, in units of `WIDTH`."""

    x: float
    width: float


def stack(values: Sequence[float], scale: Scale) -> list[Part]:
    """The parts of a bar of values, end to end from 0."""
    places = [_x(scale, sum(values[:count])) for count in range(len(values) + 1)]
    return [Part(begin, round(end - begin, 1)) for begin, end in itertools.pairwise(places)]


@final
@dataclass(frozen=True)
class Strip:
    """Single calls, in units of `WIDTH`; the rounds lie below each other, the first on top.

    Attributes:
        ordinary: Path of a dot for each drawn call within Tukey's fence.
        outliers: Path of a dot for each call beyond the fence.
        quartiles: First and third quartile.
        tail: The 99th percentile; None if there are too few calls.
    """

    ordinary: str
    outliers: str
    quartiles: tuple[float, float]
    median: float
    tail: float | None


def strip(timing: Timing, scale: Scale, most: int) -> Strip:
    """The strip of a timing, with all outliers and about `most` ordinary calls, evenly spread over their order.

    The quartiles are those of all rounds together.
    """
    lane = LANES_HEIGHT / len(timing.rounds)
    ordinary, outliers = [], []
    for index, each in enumerate(timing.rounds):
        seconds = np.asarray(each.call_seconds)
        far = seconds > each.fence
        thinned = _thinned(seconds[~far], max(most // len(timing.rounds), 2))
        ordinary += _scattered(thinned, scale, index * lane, lane)
        outliers += _scattered(seconds[far], scale, index * lane, lane)
    calls = np.concatenate([each.call_seconds for each in timing.rounds])
    first, median, third = (_x(scale, float(quartile)) for quartile in np.percentile(calls, (25, 50, 75)))
    tail = timing.tail_seconds
    return Strip(dots(ordinary), dots(outliers), (first, third), median, None if tail is None else _x(scale, tail))


def dots(points: Iterable[tuple[float, float]]) -> str:
    """The path of a dot for each point."""
    return "".join(f"M{x:.0f} {y:.0f}h0" for x, y in points)


@final
@dataclass(frozen=True)
class Tick:
    """A tick of an axis: its position from the left or the top, and its value."""

    place: float
    value: float


@final
@dataclass(frozen=True)
class Line:
    """One line of a plot: the path through its points, and the path of their markers."""

    path: str
    markers: str


@final
@dataclass(frozen=True)
class Plot:
    """Lines by name over two logarithmic axes, whose corners lie in a box of `PLOT_WIDTH` by `PLOT_HEIGHT`."""

    left: float
    right: float
    top: float
    bottom: float
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Mapping[str, Line]


Points = Sequence[tuple[float, float]]


def plot(points: Mapping[str, Points], x_values: Sequence[float] | None = None) -> Plot:
    """A line through the points of each name.

    Args:
        points: Name -> points (x, y), positive and in order.
        x_values: Ticks of the horizontal axis; None for round numbers.
    """
    everything = [point for line in points.values() for point in line]
    x_scale, y_scale = Scale.over(x for x, _ in everything), Scale.over(y for _, y in everything)
    if x_values:
        x_scale = Scale(min(x_values), max(x_values) if len(x_values) > 1 else 2 * x_values[0], logarithmic=True)
    right, bottom = PLOT_WIDTH - _RIGHT, PLOT_HEIGHT - _BOTTOM

    def x_of(value: float) -> float:
        return _LEFT + x_scale.place(value) * (right - _LEFT)

    def y_of(value: float) -> float:
        return bottom - y_scale.place(value) * (bottom - _TOP)

    lines = {
        name: _line([(x_of(x), y_of(y)) for x, y in line], index) for index, (name, line) in enumerate(points.items())
    }
    x_ticks = _apart([Tick(x_of(value), value) for value in x_values or x_scale.ticks(6)])
    y_ticks = [Tick(y_of(value), value) for value in y_scale.ticks(8)]
    return Plot(_LEFT, right, _TOP, bottom, x_ticks, y_ticks, lines)


def marker(x: float, y: float, index: int) -> str:
    """The outline of a small shape around a point; the index selects the shape."""
    return f"M{x:.1f} {y:.1f}{_MARKERS[index % len(_MARKERS)]}"


def _apart(ticks: Sequence[Tick]) -> list[Tick]:
    """The ticks whose texts do not touch, with the last one."""
    kept: list[Tick] = []
    for tick in reversed(ticks):
        if not kept or kept[-1].place - tick.place >= _TEXT_WIDTH:
            kept.append(tick)
    return kept[::-1]


def _line(points: Points, index: int) -> Line:
    path = "".join(f"{'L' if number else 'M'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(points))
    return Line(path, "".join(marker(x, y, index) for x, y in points))


def _x(scale: Scale, value: float) -> float:
    return round(WIDTH * scale.place(value), 1)


def _thinned(values: np.ndarray, most: int) -> np.ndarray:
    """At most `most` values, evenly spread over their order, with the least and the largest."""
    if len(values) <= most:
        return values
    chosen = np.round(np.linspace(0, len(values) - 1, most)).astype(int)
    return np.asarray(np.sort(values)[chosen])


def _scattered(values: np.ndarray, scale: Scale, top: float, height: float) -> list[tuple[float, float]]:
    """Points in a lane, at heights that vary from point to point but not from run to run."""
    return [
        (_x(scale, float(value)), top + height * (0.15 + 0.7 * (index * _TURN % 1)))
        for index, value in enumerate(values)
    ]


def _round_up(value: float) -> float:
    """The least number of the form 1, 2 or 5 times a power of ten that is not below a value."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _STEPS if step * power >= value * (1 - 1e-9))


def _round_down(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in reversed(_STEPS) if step * power <= value * (1 + 1e-9))

"""The curve of a series over its runs, as SVG paths: times with intervals, certain changes, versions on the axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from ...runtime.errors import truncated
from ..report.charts import shown_seconds
from ..report.svg import PLOT_HEIGHT, PLOT_WIDTH, Scale, marker
from ..statistics.estimate import Estimate
from .run import HistoryRun
from .series import Series, changed_versions

_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 14, 24, 40
_Y_TICKS = 6
_TEXT_HEIGHT = 13
"""Width of a line of text that stands upright."""
_NUMBER_WIDTH = 26
_MOST_TEXT = 40
_PADDING = 0.08
_LEAST_ROOM = 0.05


@final
@dataclass(frozen=True)
class Curve:
    """The curve, in a box of `PLOT_WIDTH` by `PLOT_HEIGHT`.

    Attributes:
        path: Through all runs.
        markers: A dot for each run.
        whiskers: The interval of each run over its rounds.
        changes: Places of certain changes.
        numbers: Numbers of runs on the axis.
        versions: Places where versions changed, and what changed.
        y_ticks: Ticks in seconds, as text.
    """

    left: float
    right: float
    top: float
    bottom: float
    path: str
    markers: str
    whiskers: str
    changes: Sequence[float]
    numbers: Sequence[tuple[float, int]]
    versions: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]


def draw_curve(series: Series) -> Curve:
    """The curve of a series."""
    costs = [point.measurement.cost for point in series.points]
    scale = _scale(costs)
    right, bottom = PLOT_WIDTH - _RIGHT, PLOT_HEIGHT - _BOTTOM
    step = (right - _LEFT) / len(costs)
    xs = [_LEFT + step * (index + 0.5) for index in range(len(costs))]
    ys = [_y(scale, cost.value, bottom) for cost in costs]
    runs = [point.run for point in series.points]
    middles = list(zip(xs, ys, strict=True))
    return Curve(
        left=_LEFT,
        right=right,
        top=_TOP,
        bottom=bottom,
        path="".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(middles)),
        markers="".join(marker(x, y, 0) for x, y in middles),
        whiskers="".join(
            f"M{x:.1f} {_y(scale, cost.low, bottom):.1f}V{_y(scale, cost.high, bottom):.1f}"
            for x, cost in zip(xs, costs, strict=True)
            if cost.is_bounded
        ),
        changes=[xs[change.first] - step / 2 for change in series.changes],
        numbers=_numbers(runs, xs),
        versions=_versions(runs, xs),
        y_ticks=[(_y(scale, value, bottom), shown_seconds(value)) for value in scale.ticks(_Y_TICKS)],
    )


def _scale(costs: Sequence[Estimate]) -> Scale:
    """A linear scale around the times; a long interval of few rounds is cut, so that it does not flatten the curve."""
    values = [cost.value for cost in costs]
    room = max(max(values) - min(values), _LEAST_ROOM * max(values))
    ends = [end for cost in costs if cost.is_bounded for end in (cost.low, cost.high)] or values
    low = max(min(*ends, *values), min(values) - room)
    high = min(max(*ends, *values), max(values) + room)
    padding = max(_PADDING * (high - low), _PADDING * room)
    return Scale(max(low - padding, 0.0), high + padding)


def _y(scale: Scale, seconds: float, bottom: float) -> float:
    return bottom - scale.place(seconds) * (bottom - _TOP)


def _numbers(runs: Sequence[HistoryRun], xs: Sequence[float]) -> list[tuple[float, int]]:
    """The numbers that have room on the axis, with the last."""
    kept: list[tuple[float, int]] = []
    for x, run in zip(reversed(xs), reversed(runs), strict=True):
        if not kept or kept[-1][0] - x >= _NUMBER_WIDTH:
            kept.append((x, run.number))
    return kept[::-1]


def _versions(runs: Sequence[HistoryRun], xs: Sequence[float]) -> list[tuple[float, str]]:
    """The changes of versions that have room beside each other, the latest first."""
    kept: list[tuple[float, str]] = []
    for index in range(len(runs) - 1, 0, -1):
        changed = changed_versions(runs[index - 1], runs[index])
        if changed and (not kept or kept[-1][0] - xs[index] >= _TEXT_HEIGHT):
            text = ", ".join(f"{name} {new or 'none'}" for name, (_, new) in changed.items())
            kept.append((xs[index], truncated(text, _MOST_TEXT)))
    return kept

"""Words per second of a training as layers, width, vocabulary and corpus grow: measured, as a table, as a picture."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ..model.figures import png
from ..runtime.files import write_atomically
from .training_probe import Probe


def _layers(count: int) -> Probe:
    return Probe({"layer_sizes": ",".join(["200"] * count)}, steps=30)


def _width(width: int) -> Probe:
    return Probe({"layer_sizes": f"{width},{width}", "embedding_size": str(width)}, steps=30)


def _vocabulary(words: int) -> Probe:
    return Probe(vocabulary=words, steps=30)


def _corpus(tokens: int) -> Probe:
    return Probe(tokens=tokens, steps=30)


AXES: dict[str, tuple[Callable[[int], Probe], tuple[int, ...]]] = {
    "layers of 200": (_layers, (1, 2, 3, 4, 6)),
    "width of two layers": (_width, (64, 128, 200, 400, 650, 1000)),
    "words in the vocabulary": (_vocabulary, (100, 1_000, 10_000, 30_000, 100_000)),
    "words in the corpus": (_corpus, (100_000, 1_000_000, 10_000_000, 50_000_000)),
}
"""What grows -> the probe of a size, and the sizes; the rest is that of `ptb-200`."""


@final
@dataclass(frozen=True)
class Growth:
    """Speeds and memory by what grows.

    Attributes:
        speeds: What grows -> size -> words per second, the median of the rounds.
        peaks: The same of peak resident memory, in bytes.
    """

    speeds: dict[str, dict[int, float]]
    peaks: dict[str, dict[int, float]]

    @classmethod
    def measured(cls, run_probe: Callable[[Probe], dict[str, Any]], rounds: int) -> "Growth":
        """Measure every size once a round."""
        points = [(axis, size) for axis, (_, sizes) in AXES.items() for size in sizes]
        found: dict[tuple[str, int], list[dict[str, Any]]] = {point: [] for point in points}
        for _ in range(rounds):
            for axis, size in points:
                found[axis, size].append(run_probe(AXES[axis][0](size)))
        speeds: dict[str, dict[int, float]] = {axis: {} for axis in AXES}
        peaks: dict[str, dict[int, float]] = {axis: {} for axis in AXES}
        for (axis, size), results in found.items():
            seconds = statistics.median(statistics.median(result["seconds"]) for result in results)
            speeds[axis][size] = results[0]["tokens"] / seconds
            peaks[axis][size] = max(result["peak_bytes"] for result in results)
        return cls(speeds, peaks)


def growth_table(growth: Growth) -> str:
    """One line a size."""
    lines = [f"{'':<36}{'words/s':>9}  {'peak memory':>11}"]
    for axis, speeds in growth.speeds.items():
        lines += [
            f"{axis:<24}{size:>12,}{speed:>9,.0f}  {growth.peaks[axis][size] / 1e6:>8,.0f} MB"
            for size, speed in speeds.items()
        ]
    return "\n".join(lines)


def draw_growth(growth: Growth, path: Path) -> None:
    """Draw the speeds into a PNG file, one panel for each thing that grows.

    Raises:
        StorageError: It cannot be written.
    """
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panels = figure.subplots(1, len(growth.speeds), sharey=True)
    for panel, (axis, speeds) in zip(panels, growth.speeds.items(), strict=True):
        panel.plot(list(speeds), list(speeds.values()), "o-")
        panel.set_xlabel(axis)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.grid(visible=True, which="both", alpha=0.3)
        for side in (panel.xaxis, panel.yaxis):
            side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panels[0].set_ylabel("words per second")
    write_atomically(path, png(figure))

"""The results as a chart: tokens per second of every runtime. Servers are left out: arrivals set their rate."""

import math
from pathlib import Path
from typing import Any

from ...model.figures import Figure, MaxNLocator, png
from ...runtime.io.files import write_atomically
from ..results import Results
from ..scenario import Scenario
from ..timing import Timing

_COLUMNS = 4


def draw_chart(results: Results, path: Path) -> None:
    """Draw a PNG file of results with at least one timing.

    Raises:
        StorageError: It cannot be written.
    """
    write_atomically(path, png(throughput_figure(results), 120))


def throughput_figure(results: Results) -> Figure:
    """A panel for each scenario, a bar for each runtime; lines show the range over the rounds."""
    scenarios = [scenario for scenario in results.scenarios if scenario.tokens and scenario.kind != "server"]
    scenarios = scenarios or results.scenarios
    columns = min(len(scenarios), _COLUMNS)
    rows = math.ceil(len(scenarios) / columns)
    height = 1.1 + 0.26 * len(results.runtimes)
    figure = Figure(figsize=(3.4 * columns + 1.2, height * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(scenarios) :]:
        axes.set_visible(False)
    for axes, scenario in zip(grid.flat, scenarios, strict=False):
        _draw_panel(axes, results, scenario)
    figure.suptitle(
        f"{results.unit}s per second; {', '.join(results.identity.providers)}, threads {results.identity.threads}, "
        f"{results.identity.environment['processor']}",
        fontsize=9,
    )
    return figure


def _draw_panel(axes: Any, results: Results, scenario: Scenario) -> None:
    """Draw bars from the top in the runtimes' order; load and first step count no tokens and show 1/s."""
    names = results.runtimes
    for timing in results.of(scenario):
        place = names.index(timing.runtime)
        speed = timing.tokens_per_second or 1 / timing.median_seconds
        axes.barh(place, speed, color=f"C{place % 10}")
        slowest, fastest = (speed, speed) if scenario.kind == "server" else _range(timing)
        axes.plot([slowest, fastest], [place, place], color="black", linewidth=1)
        factor = results.speedup(timing.runtime, scenario)
        label = f"{speed:,.0f}" + ("" if factor is None else f"  {factor.value:.1f}x")
        axes.annotate(
            label, (max(speed, fastest), place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7
        )
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.margins(x=0.35)
    axes.set_title(scenario.named(results.unit).replace(": ", "\n"), fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(3))


def _range(timing: Timing) -> tuple[float, float]:
    """Tokens (or calls) per second of the slowest and of the fastest round."""
    tokens = timing.scenario.tokens or 1
    return tokens / max(timing.medians), tokens / min(timing.medians)

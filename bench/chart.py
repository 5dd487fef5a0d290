"""The results as a picture: tokens per second of every runtime in every scenario."""

from pathlib import Path

from matplotlib.figure import Figure

from ..model.figures import png
from ..runtime.files import write_atomically
from .results import Results


def draw_chart(results: Results, path: Path) -> None:
    """Draw a PNG file; the results hold a timing at least.

    Raises:
        StorageError: It cannot be written.
    """
    scenarios = results.scenarios
    figure = Figure(figsize=(3.2 * len(scenarios) + 1, 3.4), layout="constrained")
    grid = figure.subplots(1, len(scenarios), squeeze=False)
    for axes, scenario in zip(grid[0], scenarios, strict=True):
        timings = [results.timing(runtime, scenario) for runtime in results.runtimes]
        speeds = [timing.tokens_per_second for timing in timings]
        bars = axes.bar(results.runtimes, speeds, color=[f"C{index}" for index in range(len(timings))])
        labels = [
            f"{speed:,.0f}\n{results.speedup(runtime, scenario):.1f}x"
            for runtime, speed in zip(results.runtimes, speeds, strict=True)
        ]
        axes.bar_label(bars, labels, fontsize=8)
        axes.margins(y=0.2)
        axes.set_title(scenario.name.replace(": ", "\n"), fontsize=9)
        axes.tick_params(axis="x", labelrotation=20, labelsize=8)
        axes.tick_params(axis="y", labelsize=8)
        axes.yaxis.set_major_formatter("{x:,.0f}")
    grid[0][0].set_ylabel("tokens per second")
    figure.suptitle(
        f"provider {results.identity.provider}, threads {results.identity.threads}, "
        f"{results.identity.environment['processor']}",
        fontsize=9,
    )
    write_atomically(path, png(figure, 120))

"""How fast a training is: measure by measure, beside another program, and as the model grows.

    python -m lmtool.bench.studies.training_speed compare --data DIR [--peer "COMMAND ..."]
    python -m lmtool.bench.studies.training_speed grow --out FILE.png

The peer is a command that prints `ms/batch NUMBER` lines as it trains, like pytorch/examples' word_language_model.
Everything runs in processes of its own, taking turns."""

import argparse
import dataclasses
import json
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ...model.figures import check_png_name, png
from ...runtime.errors import LmtoolError
from ...runtime.io.files import make_folder, write_atomically
from ..errors import BenchError
from .training_probe import ALL_ROWS, PLAIN_LOSS, Probe


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


STAGES = {
    "plain fp32": Probe({"precision": "fp32"}, without=(PLAIN_LOSS, ALL_ROWS)),
    "+ touched rows only": Probe({"precision": "fp32"}, without=(PLAIN_LOSS,)),
    "+ LSTM in bf16": Probe({"precision": "bf16"}, without=(PLAIN_LOSS,)),
    "+ fused loss, all in bf16": Probe({"precision": "bf16"}),
    "fused loss, all in fp32": Probe({"precision": "fp32"}),
}
_TOKENS = 30 * 20
"""Of a batch of ptb-200, and of the peer."""
_PEER_LINES = 3
_MS_PER_BATCH = re.compile(r"ms/batch\s+([\d.]+)")


def run_probe(probe: Probe) -> dict[str, Any]:
    """Measure in a process of its own."""
    finished = subprocess.run(probe.command(), capture_output=True, text=True)  # noqa: S603  # our own
    if finished.returncode:
        raise BenchError(f"a measurement failed:\n{finished.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def run_peer(command: str, tokens: int, lines: int) -> dict[str, Any]:
    """Run the peer until it has printed so many `ms/batch` lines; the first one is warm-up.

    Its speed is the median of the others; `tokens` is what one of its batches holds.
    """
    process = subprocess.Popen(  # noqa: S603  # the reader chose the command
        shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    seconds: list[float] = []
    for line in process.stdout:
        seconds += [float(number) / 1000 for number in _MS_PER_BATCH.findall(line)]
        if len(seconds) > lines:
            break
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = -signal.SIGKILL
    if len(seconds) < 2:
        raise BenchError(f"{command!r} printed {len(seconds)} lines with ms/batch, expected 2 or more; try it alone")
    return {"seconds": seconds[1:], "tokens": tokens, "peak_bytes": usage.ru_maxrss * 1024}


def compare(data: str, peer: str | None, rounds: int) -> str:
    """A table: words per second of each stage and of the peer, medians over the rounds, and peak memory."""
    runners: dict[str, Callable[[], dict[str, Any]]] = {}
    if peer is not None:
        runners["peer"] = lambda: run_peer(peer, _TOKENS, _PEER_LINES)
    for name, probe in STAGES.items():
        chosen = dataclasses.replace(probe, data=data)
        runners[name] = lambda chosen=chosen: run_probe(chosen)  # type: ignore[misc]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in runners}
    for turn in range(rounds):
        names = list(runners)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(runners[name]())
            print(f"round {turn + 1}, {name}: {_speed(found[name][-1]):,.0f} words/s", file=sys.stderr)  # noqa: T201
    return _table(found)


def _speed(result: dict[str, Any]) -> float:
    return float(result["tokens"] / statistics.median(result["seconds"]))


def _table(found: dict[str, list[dict[str, Any]]]) -> str:
    base = next(iter(found))
    lines = [f"{'':<28}{'words/s':>9}  {'lowest to highest':>19}  {f'over {base}':>24}  {'peak memory':>11}"]
    for name, results in found.items():
        speeds = [_speed(result) for result in results]
        ratios = [speed / _speed(other) for speed, other in zip(speeds, found[base], strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        memory = max(result["peak_bytes"] for result in results) / 1e6
        spread = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
        lines.append(f"{name:<28}{statistics.median(speeds):>9,.0f}  {spread:>19}  {ratio:>24}  {memory:>8,.0f} MB")
    return "\n".join(lines)


def grow(out: Path, rounds: int) -> str:
    """A table and a picture: words per second as layers, width, vocabulary and corpus grow.

    Raises:
        OptionError: The picture's name does not end in `.png`; nothing was measured.
        BenchError: A measurement failed.
        StorageError: The picture cannot be written.
    """
    check_png_name(out)
    growth = Growth.measured(run_probe, rounds)
    make_folder(out.parent)
    draw_growth(growth, out)
    return growth_table(growth)


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(prog="python -m lmtool.bench.studies.training_speed", description=__doc__)
    what = parser.add_subparsers(required=True, dest="what")
    comparing = what.add_parser("compare", help="measure by measure, and beside another program")
    comparing.add_argument("--data", required=True, help="corpus folder")
    comparing.add_argument("--peer", help="command that prints ms/batch lines, of 600 words a batch")
    growing = what.add_parser("grow", help="as the model and the corpus grow")
    growing.add_argument("--out", type=Path, required=True, help="PNG file to write")
    for each in (comparing, growing):
        each.add_argument("--rounds", type=int, default=3, help="how often the measurements take turns")
    chosen = parser.parse_args()
    try:
        if chosen.what == "compare":
            print(compare(chosen.data, chosen.peer, chosen.rounds))  # noqa: T201
        else:
            print(grow(chosen.out, chosen.rounds))  # noqa: T201
    except LmtoolError as error:
        parser.exit(error.exit_code, f"error: {error}\n")


if __name__ == "__main__":
    main()

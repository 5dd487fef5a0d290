"""Measure training speed: optimization by optimization, beside another program, and as the model grows.

    python bench/studies/training_speed.py compare --data DIR [--peer "COMMAND ..."]
    python bench/studies/training_speed.py grow --out FILE.png

The peer is a command that prints `ms/batch NUMBER` lines as it trains, like pytorch/examples' word_language_model.
Each measurement runs in a separate process (`training_probe.py`), in interleaved rounds.
"""

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
from pathlib import Path
from typing import Any

from common.program import run_program
from lmtool.bench.errors import BenchError
from lmtool.model.figures import check_png_name, png
from lmtool.runtime.io.files import make_folder, write_atomically
from lmtool.runtime.io.text_table import text_table
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from training_probe import ALL_ROWS, PLAIN_LOSS, Probe

Measurement = dict[str, Any]
"""`seconds` of each step, `tokens` of a step, `peak_bytes` of resident memory."""

STAGES = {
    "plain fp32": Probe({"precision": "fp32"}, without=(PLAIN_LOSS, ALL_ROWS)),
    "+ touched rows only": Probe({"precision": "fp32"}, without=(PLAIN_LOSS,)),
    "+ LSTM in bf16": Probe({"precision": "bf16"}, without=(PLAIN_LOSS,)),
    "+ fused loss, all in bf16": Probe({"precision": "bf16"}),
    "+ softmax of 2,500 words": Probe({"precision": "bf16", "sampled_softmax": "2500"}),
    "fused loss, all in fp32": Probe({"precision": "fp32"}),
}
_TOKENS = 30 * 20
"""Tokens of a batch, of ptb-200 and of the peer."""
_PEER_LINES = 3
_MS_PER_BATCH = re.compile(r"ms/batch\s+([\d.]+)")


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
"""What grows -> the probe of a size, and the sizes; the rest is as in `ptb-200`."""


def compare(data: str, peer: str | None, rounds: int) -> str:
    """A table of words per second (median of the rounds) and peak memory of each stage and of the peer."""
    runners: dict[str, Callable[[], Measurement]] = {}
    if peer is not None:
        runners["peer"] = lambda: run_peer(peer, _TOKENS, _PEER_LINES)
    for name, probe in STAGES.items():
        runners[name] = lambda probe=probe: run_probe(dataclasses.replace(probe, data=data))
    measurements: dict[str, list[Measurement]] = {name: [] for name in runners}
    for number in range(rounds):
        names = list(runners)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            measurements[name].append(runners[name]())
            speed = _words_per_second(measurements[name][-1])
            print(f"round {number + 1}, {name}: {speed:,.0f} words/s", file=sys.stderr)
    base, *_ = measurements.values()
    rows = [("", "words/s", "lowest to highest", f"over {next(iter(measurements))}", "peak memory")]
    rows += [_comparison_row(name, rounds_of, base) for name, rounds_of in measurements.items()]
    return "\n".join(text_table(rows, "<>"))


def _comparison_row(name: str, measurements: list[Measurement], base: list[Measurement]) -> tuple[str, ...]:
    speeds = [_words_per_second(measurement) for measurement in measurements]
    ratios = [speed / _words_per_second(other) for speed, other in zip(speeds, base, strict=True)]
    return (
        name,
        f"{statistics.median(speeds):,.0f}",
        f"{min(speeds):,.0f} to {max(speeds):,.0f}",
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        _peak_memory(measurements),
    )


def grow(out: Path, rounds: int) -> str:
    """A table and a picture of words per second as layers, width, vocabulary and corpus grow.

    Raises:
        OptionError: The picture's name does not end in `.png`; nothing is measured.
        BenchError: A measurement failed.
        StorageError: The picture cannot be written.
    """
    check_png_name(out)
    points = [(axis, size) for axis, (_, sizes) in AXES.items() for size in sizes]
    measurements: dict[tuple[str, int], list[Measurement]] = {point: [] for point in points}
    for _ in range(rounds):
        for axis, size in points:
            measurements[axis, size].append(run_probe(AXES[axis][0](size)))
    speeds = {point: statistics.median(map(_words_per_second, measurements[point])) for point in points}
    make_folder(out.parent)
    draw_growth(speeds, out)
    rows = [("", "", "words/s", "peak memory")]
    rows += [
        (axis, f"{size:,}", f"{speeds[axis, size]:,.0f}", _peak_memory(measurements[axis, size]))
        for axis, size in points
    ]
    return "\n".join(text_table(rows, "<>"))


def draw_growth(speeds: dict[tuple[str, int], float], path: Path) -> None:
    """Draw words per second by axis and size into a PNG file, one panel for each axis.

    Raises:
        StorageError: It cannot be written.
    """
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    for panel, (axis, (_, sizes)) in zip(panels, AXES.items(), strict=True):
        panel.plot(list(sizes), [speeds[axis, size] for size in sizes], "o-")
        panel.set_xlabel(axis)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.grid(visible=True, which="both", alpha=0.3)
        for side in (panel.xaxis, panel.yaxis):
            side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panels[0].set_ylabel("words per second")
    write_atomically(path, png(figure))


def _words_per_second(measurement: Measurement) -> float:
    return float(measurement["tokens"] / statistics.median(measurement["seconds"]))


def _peak_memory(measurements: list[Measurement]) -> str:
    return f"{max(measurement['peak_bytes'] for measurement in measurements) / 1e6:,.0f} MB"


def run_probe(probe: Probe) -> Measurement:
    """Measure in a new process.

    Raises:
        BenchError: The process failed.
    """
    finished = subprocess.run(probe.command(), capture_output=True, text=True)
    if finished.returncode:
        raise BenchError(f"a measurement failed:\n{finished.stderr[-2000:]}")
    return json.loads(finished.stdout)


def run_peer(command: str, tokens: int, lines: int) -> Measurement:
    """Run the peer until it has printed `lines` + 1 `ms/batch` lines; the first one is warm-up.

    Args:
        command: The peer's command line.
        tokens: Tokens of one of its batches.
        lines: Lines to measure.

    Raises:
        BenchError: The peer printed less than two lines.
    """
    process = subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
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


def main() -> None:
    """Parse the arguments, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    comparing = commands.add_parser("compare", help="optimization by optimization, and beside another program")
    comparing.add_argument("--data", required=True, help="corpus folder")
    comparing.add_argument("--peer", help="command that prints ms/batch lines, of 600 words a batch")
    growing = commands.add_parser("grow", help="as the model and the corpus grow")
    growing.add_argument("--out", type=Path, required=True, help="PNG file to write")
    for subparser in (comparing, growing):
        subparser.add_argument("--rounds", type=int, default=3, help="number of interleaved rounds")
    options = parser.parse_args()
    if options.command == "compare":
        print(compare(options.data, options.peer, options.rounds))
    else:
        print(grow(options.out, options.rounds))


if __name__ == "__main__":
    run_program(main)

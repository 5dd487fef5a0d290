"""Measure the scoring of many lines against bare calls of the same session.

    python bench/studies/line_scores.py --model FILE --text FILE [--lines N] [--rounds N]

In each round the next part of the lines is scored by `Predictor.scores`, by `lmtool score --json` in a process whose
output is discarded (what its start and first lines cost is measured beside it and left out), and a twentieth of it by
`Predictor.score`, line by line. A bare call is `InferenceSession.run` of random tokens, which gives the logits of all
positions, at each of several shapes; the one with the largest median rate is what the others are compared with.

Calls have one thread, and rates are tokens a second of processor time, which other work on the machine disturbs less.
"""

import argparse
import itertools
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time

import numpy as np
from common.program import run_program
from lmtool.bench.bare_calls import bare_calls
from lmtool.bench.environment import describe_environment
from lmtool.runtime.io.text_files import read_text
from lmtool.runtime.io.text_table import text_table
from lmtool.runtime.predictor import Predictor

SHAPES = ((1, 24), (4, 24), (8, 24), (16, 24), (32, 24), (16, 8), (64, 8), (8, 48), (1, 128))
_SECONDS_PER_SHAPE = 0.2
_ALONE_SHARE = 20
_FIRST_LINES = 64


def bare_rate(predictor: Predictor, shape: tuple[int, int]) -> float:
    """Tokens a second of bare calls of a shape, with all logits and states."""
    call = bare_calls(predictor, np.random.default_rng(0).integers(0, len(predictor.vocabulary), (1, *shape)))
    calls, start = 0, process_time()
    while process_time() - start < _SECONDS_PER_SHAPE:
        call()
        calls += 1
    return calls * shape[0] * shape[1] / (process_time() - start)


def api_rate(predictor: Predictor, lines: Sequence[str]) -> float:
    """Tokens a second of `Predictor.scores`."""
    return _rate(lambda: sum(len(score.tokens) for score in predictor.scores(lines)))


def alone_rate(predictor: Predictor, lines: Sequence[str]) -> float:
    """Tokens a second of `Predictor.score`, line by line."""
    return _rate(lambda: sum(len(predictor.score(line).tokens) for line in lines))


def _rate(score: Callable[[], int]) -> float:
    start = process_time()
    tokens = score()
    return tokens / (process_time() - start)


def command_rate(predictor: Predictor, model: Path, lines: Sequence[str]) -> float:
    """Tokens a second of `lmtool score --json`, without its start and its first lines."""
    tokens = sum(len(predictor.vocabulary.encode(line)) for line in lines[_FIRST_LINES:])
    start = _command_seconds(model, lines[:_FIRST_LINES])
    return tokens / (_command_seconds(model, lines) - start)


def _command_seconds(model: Path, lines: Sequence[str]) -> float:
    """Processor time of the command."""
    command = [sys.executable, "-m", "lmtool.cli", "score", "--json", "--model", str(model)]
    with tempfile.TemporaryFile() as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
        file.seek(0)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdin=file, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(predictor: Predictor, model: Path, lines: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Tokens a second of each way to score and of each bare shape, round by round."""
    rates: dict[str, list[float]] = {}
    size = max(len(lines) // rounds, 1)
    for part in itertools.islice((lines[start : start + size] for start in itertools.count(0, size)), rounds):
        measured = {f"bare {batch}x{time}": bare_rate(predictor, (batch, time)) for batch, time in SHAPES}
        measured["scores"] = api_rate(predictor, part)
        measured["lmtool score"] = command_rate(predictor, model, part)
        measured["score"] = alone_rate(predictor, part[: max(len(part) // _ALONE_SHARE, 1)])
        for name, rate in measured.items():
            rates.setdefault(name, []).append(rate)
    return rates


def format_report(rates: dict[str, list[float]]) -> list[str]:
    """A table: medians, and medians and ranges of the ratios to the best bare shape, round by round."""
    best = max((name for name in rates if name.startswith("bare")), key=lambda name: statistics.median(rates[name]))
    rows = [("", "tokens/s", "of the best bare call", "lowest", "highest")]
    for name, measured in rates.items():
        shares = [rate / bare for rate, bare in zip(measured, rates[best], strict=True)]
        shown = (f"{share:.0%}" for share in (statistics.median(shares), min(shares), max(shares)))
        rows.append((name, f"{statistics.median(measured):,.0f}", *shown))
    return text_table(rows, "<>")


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="artifact")
    parser.add_argument("--text", type=Path, required=True, help="text whose lines are scored, again and again")
    parser.add_argument("--lines", type=int, default=100_000, help="number of lines")
    parser.add_argument("--rounds", type=int, default=10, help="parts of the lines")
    options = parser.parse_args()
    predictor = Predictor.load(options.model)
    lines = list(itertools.islice(itertools.cycle(read_text(options.text).splitlines()), options.lines))
    environment = describe_environment()
    print(f"{environment['processor']}, {environment['usable_cores']} cores")
    print(f"{options.model}, {len(lines):,} lines of {options.text}")
    print("\n".join(format_report(measure(predictor, options.model, lines, options.rounds))))


if __name__ == "__main__":
    run_program(main)

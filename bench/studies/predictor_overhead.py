"""Measure the overhead of a predictor over its session: import time, time of a step, speed and memory of scoring.

    python bench/studies/predictor_overhead.py --model FILE [--threads N] [--tokens N]

A step is compared with `InferenceSession.run` of the same session on prepared inputs. Both run closed loops (each call
reads the states of the call before) and alternate call by call. Import times are those of fresh processes with and
without lmtool.runtime, which alternate too. The scored text consists of random tokens; the resident set is read after a
tenth of it and at its end.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from common.program import run_program
from lmtool.bench.bare_calls import bare_calls
from lmtool.bench.environment import describe_environment, resident_bytes
from lmtool.runtime.io.text_table import text_table
from lmtool.runtime.predictor import Predictor
from numpy.typing import NDArray

_WITHOUT = "import numpy, onnxruntime"


@final
@dataclass(frozen=True)
class StepCost:
    """Seconds of each bare call and of each step at one batch size."""

    batch_size: int
    bare: list[float]
    step: list[float]

    def ratio(self, percentile: float) -> float:
        """The step's percentile over the bare call's."""
        return float(np.percentile(self.step, percentile) / np.percentile(self.bare, percentile))


@final
@dataclass(frozen=True)
class ScoringCost:
    """A long text: tokens, seconds, and the resident set in bytes after a tenth of it and at its end."""

    tokens: int
    seconds: float
    resident_early: int
    resident_late: int


def measure_step(predictor: Predictor, batch_size: int, calls: int) -> StepCost:
    """Time `calls` closed-loop calls of each kind, one token a stream."""
    tokens = np.ones((batch_size, 1), np.int64)
    loops = {"bare": bare_calls(predictor, tokens[None]), "step": _step_loop(predictor, tokens)}
    times: dict[str, list[float]] = {name: [] for name in loops}
    for index in range(calls):
        for name in sorted(loops, reverse=index % 2 == 1):
            start = time.perf_counter()
            loops[name]()
            times[name].append(time.perf_counter() - start)
    return StepCost(batch_size, times["bare"], times["step"])


def _step_loop(predictor: Predictor, token_ids: NDArray[np.int64]) -> Callable[[], None]:
    state = predictor.initial_state(len(token_ids))

    def call() -> None:
        nonlocal state
        _, state = predictor.step(token_ids, state)

    return call


def measure_scoring(predictor: Predictor, tokens: int) -> ScoringCost:
    """Score a text of random tokens.

    Raises:
        BenchError: The system does not report the resident memory as Linux does.
    """
    ids = np.random.default_rng(0).integers(0, len(predictor.vocabulary), tokens)
    stream = predictor.stream(predictor.initial_state(1))
    stream.feed_ids(ids[:1])
    start, early, done = time.perf_counter(), 0, 1
    for chunk in stream.token_log_probs(ids[1:]):
        done += len(chunk)
        if not early and done >= tokens // 10:
            early = resident_bytes()
    return ScoringCost(tokens, time.perf_counter() - start, early, resident_bytes())


def measure_import(repeats: int) -> tuple[float, float]:
    """Median seconds of a process that imports numpy and onnxruntime, and of one that imports lmtool.runtime too."""
    times: dict[str, list[float]] = {_WITHOUT: [], f"{_WITHOUT}, lmtool.runtime": []}
    for _ in range(repeats):
        for code, seconds in times.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            seconds.append(time.perf_counter() - start)
    without, with_runtime = map(statistics.median, times.values())
    return without, with_runtime


def format_report(imports: tuple[float, float], steps: list[StepCost], scoring: ScoringCost | None) -> str:
    """The measurements as text."""
    without, with_runtime = imports
    rows = [("batch", "bare call", "step", "ratio of medians", "of 10th percentiles")]
    for cost in steps:
        bare, step = (f"{statistics.median(times) * 1e6:,.0f} us" for times in (cost.bare, cost.step))
        rows.append((str(cost.batch_size), bare, step, f"{cost.ratio(50):.3f}", f"{cost.ratio(10):.3f}"))
    lines = [
        f"import: numpy and onnxruntime {without * 1000:,.0f} ms, with lmtool.runtime {with_runtime * 1000:,.0f} ms",
        "",
        *text_table(rows, ">"),
    ]
    if scoring is not None:
        lines += [
            "",
            f"scoring {scoring.tokens:,} tokens: {scoring.tokens / scoring.seconds:,.0f} tokens/s; resident "
            f"{scoring.resident_early / 1e6:,.1f} MB after a tenth, {scoring.resident_late / 1e6:,.1f} MB at the end",
        ]
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="artifact")
    parser.add_argument("--threads", type=int, default=1, help="threads of a call")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64], help="streams of a call")
    parser.add_argument("--calls", type=int, default=2000, help="calls of each kind")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="length of the scored text; 0: none")
    parser.add_argument("--repeats", type=int, default=11, help="importing processes of each kind")
    options = parser.parse_args()
    predictor = Predictor.load(options.model, threads=options.threads)
    steps = [measure_step(predictor, size, options.calls) for size in options.batch]
    scoring = measure_scoring(predictor, options.tokens) if options.tokens else None
    environment = describe_environment()
    print(f"{environment['processor']}, {environment['usable_cores']} cores, {options.threads} threads a call")
    print(format_report(measure_import(options.repeats), steps, scoring))


if __name__ == "__main__":
    run_program(main)

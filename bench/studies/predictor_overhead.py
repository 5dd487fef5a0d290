"""What the predictor costs beside the session it drives: importing it, a step, and scoring a long text.

    python -m lmtool.bench.studies.predictor_overhead --model FILE [--threads N] [--tokens N]

A step is compared with `InferenceSession.run` of the same session on prepared inputs, both in a closed loop of their
own (each feeds the states it got), taking turns call by call, the first turn alternating. Import times are those of
fresh processes, with and without lmtool.runtime, which take turns too. The text is of random tokens; the resident set
is read after a tenth of it and at its end.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from ...runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS
from ...runtime.predictor import Predictor
from ..environment import describe_environment, resident_bytes

_WITHOUT = "import numpy, onnxruntime"


@final
@dataclass(frozen=True)
class StepCost:
    """Seconds of a bare call and of a step at one batch size, call by call."""

    batch_size: int
    bare: list[float]
    step: list[float]

    def ratio(self, percentile: float) -> float:
        """The step's percentile over the bare call's."""
        return float(np.percentile(self.step, percentile) / np.percentile(self.bare, percentile))


@final
@dataclass(frozen=True)
class ScoringCost:
    """A long text: its tokens, seconds, and the resident set after a tenth of it and at its end, in bytes."""

    tokens: int
    seconds: float
    resident_early: int
    resident_late: int


def measure_step(predictor: Predictor, batch_size: int, calls: int) -> StepCost:
    """Time so many closed-loop calls of each kind, one token a stream."""
    loops = {"bare": _bare_loop(predictor, batch_size), "step": _step_loop(predictor, batch_size)}
    times: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(calls):
        for name in sorted(loops, reverse=turn % 2 == 1):
            start = time.perf_counter()
            loops[name]()
            times[name].append(time.perf_counter() - start)
    return StepCost(batch_size, times["bare"], times["step"])


def _bare_loop(predictor: Predictor, batch_size: int) -> Callable[[], None]:
    session, names = predictor.session, list(predictor.artifact.architecture.states)
    outputs = [LOGITS, *(f"{NEXT}{name}" for name in names)]
    feed: dict[str, Any] = dict(zip(names, predictor.initial_state(batch_size).tensors, strict=True))
    feed[TOKEN_IDS] = np.ones((batch_size, 1), np.int64)

    def call() -> None:
        _, *states = session.run(outputs, feed)
        feed.update(zip(names, states, strict=True))

    return call


def _step_loop(predictor: Predictor, batch_size: int) -> Callable[[], None]:
    token_ids, state = np.ones((batch_size, 1), np.int64), predictor.initial_state(batch_size)

    def call() -> None:
        nonlocal state
        _, state = predictor.step(token_ids, state)

    return call


def measure_scoring(predictor: Predictor, tokens: int) -> ScoringCost:
    """Score a text of random tokens in one go.

    Raises:
        BenchError: The system does not tell the resident memory as Linux does.
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
        for code, found in times.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 (our own interpreter and code)
            found.append(time.perf_counter() - start)
    without, with_us = (statistics.median(found) for found in times.values())
    return without, with_us


def report(imports: tuple[float, float], steps: list[StepCost], scoring: ScoringCost | None) -> str:
    """The measurements as text."""
    without, with_us = imports
    lines = [
        f"import: numpy and onnxruntime {without * 1000:,.0f} ms, with lmtool.runtime {with_us * 1000:,.0f} ms",
        "",
        f"{'batch':>5}  {'bare call':>10}  {'step':>10}  {'ratio of medians':>16}  {'of 10th percentiles':>19}",
    ]
    for cost in steps:
        bare, step = (f"{statistics.median(times) * 1e6:,.0f} us" for times in (cost.bare, cost.step))
        lines.append(f"{cost.batch_size:>5}  {bare:>10}  {step:>10}  {cost.ratio(50):>16.3f}  {cost.ratio(10):>19.3f}")
    if scoring is not None:
        lines += [
            "",
            f"scoring {scoring.tokens:,} tokens: {scoring.tokens / scoring.seconds:,.0f} tokens/s; resident "
            f"{scoring.resident_early / 1e6:,.1f} MB after a tenth, {scoring.resident_late / 1e6:,.1f} MB at the end",
        ]
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m lmtool.bench.studies.predictor_overhead", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="artifact")
    parser.add_argument("--threads", type=int, default=1, help="threads of one call")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64], help="streams of one call")
    parser.add_argument("--calls", type=int, default=2000, help="calls of each kind")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="length of the scored text; 0: none")
    parser.add_argument("--repeats", type=int, default=11, help="processes of each kind that import")
    chosen = parser.parse_args()
    predictor = Predictor.load(chosen.model, threads=chosen.threads)
    steps = [measure_step(predictor, size, chosen.calls) for size in chosen.batch]
    scoring = measure_scoring(predictor, chosen.tokens) if chosen.tokens else None
    environment = describe_environment()
    print(f"{environment['processor']}, {environment['usable_cores']} cores, {chosen.threads} threads a call")  # noqa: T201
    print(report(measure_import(chosen.repeats), steps, scoring))  # noqa: T201


if __name__ == "__main__":
    main()

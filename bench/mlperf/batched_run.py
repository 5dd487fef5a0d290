"""Single-stream, multi-stream and offline: queries that are run in calls of one size."""

import time

import numpy as np

from ...runtime.predictor import Predictor
from ..load.loadgen import Issue
from ..load.loadgen_logs import Verdict
from ..workers.job import MlperfTask
from .audits import audit_repetition
from .report import report_of, run_test
from .results import MlperfRun
from .samples import SampleLibrary
from .settings import MULTI_STREAM_SAMPLES, LoadgenTest
from .systems import batched

_SIZES = {
    "single-stream": (1,),
    "multi-stream": (MULTI_STREAM_SAMPLES,),
    "offline": (1, 8, 16, 32, 64, 128, 256),
}
"""Samples in a call; the best of several is taken."""

_TRIAL_SECONDS = 0.5
_TRIES = 3
_MARGIN = 1.6
"""LoadGen prepares queries for twice the duration at the expected latency: the fastest call times this."""


def measure_batches(predictor: Predictor, library: SampleLibrary, task: MlperfTask, seconds: float) -> MlperfRun:
    """Run one of the three scenarios and audit it for remembered answers.

    Args:
        predictor: A predictor in any runtime.
        library: The samples.
        task: Scenario and folder.
        seconds: Least duration.
    """
    times = {size: call_seconds(predictor, library, size, seconds) for size in _SIZES[task.scenario]}
    size = min(times, key=lambda size: float(np.mean(times[size])) / size)
    issue = batched(predictor, library, size)
    if task.scenario == "offline":
        rate = size / float(np.mean(times[size]))
        verdict = _run_offline(library, issue, task, seconds, rate)
    else:
        rate = 1 / (_MARGIN * min(times[size]))
        verdict = run_test(LoadgenTest(task.scenario, seconds, rate, len(library)), library, issue, task)
    return report_of(task, verdict, size, audits=[audit_repetition(predictor, library, size)])


def _run_offline(library: SampleLibrary, issue: Issue, task: MlperfTask, seconds: float, rate: float) -> Verdict:
    """Run again where the samples took less than `seconds`: the rate was measured on a busier machine; a few tries."""
    for _ in range(_TRIES):
        verdict = run_test(LoadgenTest(task.scenario, seconds, rate, len(library)), library, issue, task)
        if verdict.figures["result_min_duration_met"]:
            break
        rate = 1.2 * max(verdict.figures["result_samples_per_second"], rate)
    return verdict


def call_seconds(predictor: Predictor, library: SampleLibrary, size: int, seconds: float) -> list[float]:
    """Seconds of each of some calls, 3 at least, after two that warm up, in a small part of `seconds`."""
    issue, samples = batched(predictor, library, size), list(range(size))
    times: list[float] = []
    while len(times) < 5 or sum(times) < min(_TRIAL_SECONDS, seconds / 10):
        start = time.perf_counter()
        issue(samples, lambda first, outputs: None)
        times.append(time.perf_counter() - start)
    return times[2:]

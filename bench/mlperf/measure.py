"""Worker: one run of LoadGen over one backend, by MLPerf's rules.

    python -m lmtool.bench.mlperf.measure JOB

Every backend runs behind lmtool's predictor. The process is not pinned, because LoadGen has threads beside the calls.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ...runtime.pool.options import PoolOptions
from ...runtime.pool.stream_pool import StreamPool
from ...runtime.predictor import Predictor
from ..backends.registry import BACKENDS
from ..environment import peak_bytes
from ..load.loadgen import Issue, run_loadgen, stop_at_sigint
from ..load.loadgen_logs import NANOSECONDS, Verdict, read_verdict
from ..load.mlperf_server import LATE_SHARE, MAX_BATCH, MAX_WAITING, frozen_garbage, warm_up
from ..workers.job import Job, MlperfTask, run_job
from .audits import audit_repetition
from .max_rate import Probe, Probing, RateSearch, find_max_rate
from .results import Audit, MlperfRun
from .samples import SampleLibrary, read_text
from .settings import MULTI_STREAM_SAMPLES, LoadgenTest
from .systems import PooledServer, batched

_BATCHES = (1, 8, 16, 32, 64, 128, 256)
_TRIAL_SECONDS = 0.5
_TRIES = 3
_MARGIN = 1.6
"""LoadGen prepares queries for twice the duration at the expected latency: the fastest call times this."""

_STEP_DOWN = 0.9
_PERCENTS = ("50.00", "90.00", "95.00", "97.00", "99.00", "99.90")
_METRICS = {
    "single-stream": ("early_stopping_latency_ss", 1 / NANOSECONDS),
    "multi-stream": ("early_stopping_latency_ms", 1 / NANOSECONDS),
    "offline": ("result_samples_per_second", 1.0),
    "server": ("result_completed_samples_per_sec", 1.0),
}


def measure(predictor: Predictor, library: SampleLibrary, task: MlperfTask, seconds: float, bound: float) -> MlperfRun:
    """Run one scenario; the runtime's name is still empty.

    Args:
        predictor: A predictor in any runtime.
        library: The samples.
        task: Scenario and folder.
        seconds: Least duration.
        bound: Seconds within which a server must answer 99 of 100 queries.

    Raises:
        BenchError: LoadGen is not installed, or gives no verdict.
        LmtoolError: A call of the runtime failed.
    """
    task.logs.mkdir(parents=True, exist_ok=True)
    if task.scenario == "server":
        return _measure_server(predictor, library, task, seconds, bound)
    return _measure_batches(predictor, library, task, seconds)


def _measure_batches(predictor: Predictor, library: SampleLibrary, task: MlperfTask, seconds: float) -> MlperfRun:
    sizes = {"single-stream": (1,), "multi-stream": (MULTI_STREAM_SAMPLES,), "offline": _BATCHES}[task.scenario]
    trial = min(_TRIAL_SECONDS, seconds / 10)
    times = {size: _call_seconds(batched(predictor, library, size), size, trial) for size in sizes}
    size = min(times, key=lambda size: float(np.mean(times[size])) / size)
    issue = batched(predictor, library, size)
    if task.scenario == "offline":
        rate = size / float(np.mean(times[size]))
        verdict = _run_offline(library, issue, task, seconds, rate)
    else:
        rate = 1 / (_MARGIN * min(times[size]))
        verdict = _run(LoadgenTest(task.scenario, seconds, rate, len(library)), library, issue, task)
    return _report(task, verdict, size, audits=[audit_repetition(predictor, library, size)])


def _run(test: LoadgenTest, library: SampleLibrary, issue: Issue, task: MlperfTask) -> Verdict:
    with frozen_garbage():
        run_loadgen(test.settings(), len(library), issue, task.logs)
    return read_verdict(task.logs)


def _run_offline(library: SampleLibrary, issue: Issue, task: MlperfTask, seconds: float, rate: float) -> Verdict:
    """Run again, once, where the samples took less than `seconds`: the rate was measured on a busier machine."""
    verdict = _run(LoadgenTest(task.scenario, seconds, rate, len(library)), library, issue, task)
    if verdict.figures["result_min_duration_met"]:
        return verdict
    rate = max(verdict.figures["result_samples_per_second"], rate)
    return _run(LoadgenTest(task.scenario, seconds, 1.1 * rate, len(library)), library, issue, task)


def _call_seconds(issue: Issue, size: int, seconds: float) -> list[float]:
    """Seconds of each of the calls that fit into `seconds`, 3 at least, after two that warm up."""
    samples = list(range(size))
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        start = time.perf_counter()
        issue(samples, lambda first, outputs: None)
        times.append(time.perf_counter() - start)
    return times[2:]


def _measure_server(
    predictor: Predictor, library: SampleLibrary, task: MlperfTask, seconds: float, bound: float
) -> MlperfRun:
    """Search the highest valid rate in short runs, then run that one, or a lower one if it is not valid."""
    options = PoolOptions(
        max_streams=MAX_WAITING + 2 * MAX_BATCH,  # waiting, running, just answered
        max_waiting=MAX_WAITING,
        max_batch=MAX_BATCH,
        max_tokens=MAX_BATCH,
        allow_inexact=True,
    )
    warm_up(predictor, options.batch_sizes)
    runs: list[MlperfRun] = []

    def probe(rate: float, duration: float) -> Probe:
        runs.append(_serve(predictor, library, task, options, rate, duration, bound))
        return Probe(rate, duration, runs[-1].invalid_reasons)

    single = float(np.mean(_call_seconds(batched(predictor, library, 1), 1, min(_TRIAL_SECONDS, seconds / 10))))
    search = find_max_rate(probe, 0.5 / single, seconds)
    if search.highest_valid is not None:
        _confirm(search, probe, seconds)
    return _with_search(runs[-1], search)


def _confirm(search: RateSearch, probing: Probing, seconds: float) -> None:
    """Run the highest valid rate for `seconds`, or lower ones if that is not valid; a few tries."""
    rate = search.highest_valid or 0.0
    for _ in range(_TRIES):
        search.add(probing(rate, seconds))
        if search.probes[-1].valid:
            return
        rate *= _STEP_DOWN


def _serve(
    predictor: Predictor,
    library: SampleLibrary,
    task: MlperfTask,
    options: PoolOptions,
    rate: float,
    seconds: float,
    bound: float,
) -> MlperfRun:
    """One run at one rate."""
    test = LoadgenTest("server", seconds, rate, len(library), bound)
    with StreamPool(predictor, options) as pool:
        server = PooledServer(pool, library)
        verdict = _run(test, library, server.issue, task)
        pool.close()
        server.require_success()
    report = _report(task, verdict, MAX_BATCH, server.refused)
    late = report.mean_seconds - server.seconds / report.queries
    return replace(report, rate=rate, warnings=_lateness(late, report.mean_seconds))


def _lateness(late: float, latency: float) -> list[str]:
    if late <= LATE_SHARE * latency:
        return []
    return [
        f"queries were issued {late * 1000:.2f} ms late on average, expected at most {LATE_SHARE:.0%} of the mean "
        f"latency, {latency * 1000:.2f} ms: the generator is the limit, held up by other work on the machine or by "
        "Python code of the runtime"
    ]


def _with_search(run: MlperfRun, search: RateSearch) -> MlperfRun:
    reasons = list(run.invalid_reasons)
    if not run.valid:
        lowest = min(probe.rate for probe in search.probes)
        reasons.insert(0, f"no rate was confirmed: {lowest:,.4g} requests a second are not valid either")
    return replace(
        run,
        invalid_reasons=reasons,
        highest_valid_rate=run.rate if run.valid else None,
        lowest_invalid_rate=search.lowest_invalid,
        probes=[{"rate": each.rate, "seconds": each.seconds, "valid": each.valid} for each in search.probes],
    )


def _report(
    task: MlperfTask, verdict: Verdict, batch: int, refused: int = 0, audits: Sequence[Audit] = ()
) -> MlperfRun:
    figures = verdict.figures
    queries = figures["generated_samples_per_query" if task.scenario == "offline" else "result_query_count"]
    full = [f"{refused:,} of {queries:,} queries were refused: {MAX_WAITING:,} waited already"] if refused else []
    reasons = [*full, *verdict.invalid_reasons]
    key, unit = _METRICS[task.scenario]
    kind = "query_latency" if task.scenario == "multi-stream" else "latency"
    each = "per_query_latency" if task.scenario == "multi-stream" else "latency"
    return MlperfRun(
        runtime="",
        scenario=task.scenario,
        valid=not reasons,
        invalid_reasons=reasons,
        metric=figures[key] * unit if figures.get(key) else None,
        queries=queries,
        batch=batch,
        mean_seconds=figures[f"result_mean_{kind}_ns"] / NANOSECONDS,
        percentiles={percent: figures[f"result_{percent}_percentile_{each}_ns"] / NANOSECONDS for percent in _PERCENTS},
        audits=audits,
    )


def _measure(job: Job) -> Mapping[str, Any]:
    task = job.mlperf
    assert task is not None
    backend = BACKENDS[job.backend].load(job.source)
    library = SampleLibrary.read(backend.predictor, read_text(task.text))
    task.logs.mkdir(parents=True, exist_ok=True)
    library.write(task.samples)
    run = measure(backend.predictor, library, task, job.seconds, job.latency_bound)
    precision = backend.predictor.artifact.precision
    return {**asdict(run), "peak_bytes": peak_bytes(backend.pid), "precision": precision}


if __name__ == "__main__":
    stop_at_sigint()
    run_job(_measure)

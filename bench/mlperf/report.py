"""Run one test of LoadGen, and report it."""

from collections.abc import Sequence

from ...runtime.system import usable_memory
from ..errors import BenchError
from ..load.loadgen import Issue, run_loadgen
from ..load.loadgen_logs import NANOSECONDS, Verdict, read_verdict
from ..load.mlperf_server import MAX_WAITING, frozen_garbage
from ..workers.job import MlperfTask
from .results import Audit, MlperfRun
from .samples import SampleLibrary
from .settings import LoadgenTest

PERCENTS = ("50.00", "90.00", "95.00", "97.00", "99.00", "99.90")
"""Percentiles that LoadGen reports."""

_METRICS = {
    "single-stream": ("early_stopping_latency_ss", 1 / NANOSECONDS),
    "multi-stream": ("early_stopping_latency_ms", 1 / NANOSECONDS),
    "offline": ("result_samples_per_second", 1.0),
    "server": ("result_completed_samples_per_sec", 1.0),
}


def run_test(test: LoadgenTest, library: SampleLibrary, issue: Issue, task: MlperfTask) -> Verdict:
    """Run a test; its logs are in the task's folder.

    Raises:
        BenchError: The queries do not fit into memory, LoadGen is not installed, or it gives no verdict.
    """
    _require_memory(test)
    with frozen_garbage():
        run_loadgen(test.settings(), len(library), issue, task.logs)
    return read_verdict(task.logs)


def _require_memory(test: LoadgenTest) -> None:
    total = usable_memory()
    if total is not None and test.memory_bytes > total / 2:
        raise BenchError(
            f"LoadGen prepares all queries in memory, which takes {test.memory_bytes / 1e9:.1f} GB, expected "
            f"at most half of the {total / 1e9:.1f} GB that a process here may use; run shorter: --loadgen-seconds"
        )


def report_of(
    task: MlperfTask, verdict: Verdict, batch: int, refused: int = 0, audits: Sequence[Audit] = ()
) -> MlperfRun:
    """Verdict and figures of a run; the runtime's name is still empty."""
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
        percentiles={percent: figures[f"result_{percent}_percentile_{each}_ns"] / NANOSECONDS for percent in PERCENTS},
        audits=audits,
    )

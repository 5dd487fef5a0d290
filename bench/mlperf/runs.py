"""Run LoadGen for every runtime in every scenario, keep its logs, and audit what it logged."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...model.run import Run
from ...runtime.artifact.artifact import Artifact
from ...runtime.errors import LmtoolError, StorageError
from ...runtime.io.files import make_folder, read_bytes, write_atomically
from ..candidates import Candidate, Candidates
from ..load.loadgen_logs import DETAIL, OUTPUTS, SUMMARY
from ..report.mlperf import run_line
from ..verification import Progress
from ..workers.job import MlperfTask
from ..workers.launch import CrashError, RefusedError, run_mlperf_job, run_output_audit_job
from .results import Audit, MlperfResults, MlperfRun
from .samples import write_text
from .settings import LOADGEN_NAMES

LOGS = "mlperf"
"""Name of the folder of LoadGen's logs."""

_RANDOM_TOKENS = 65_536
_MOST_TOKENS = 100_000


class Text(NamedTuple):
    """The samples' text.

    Attributes:
        token_ids: int64 [tokens].
        source: Where it is from.
    """

    token_ids: NDArray[np.int64]
    source: str


def run_mlperf(
    candidates: Candidates,
    scenarios: Sequence[str],
    seconds: float,
    latency_bound: float,
    folder: Path,
    kept: Path | None,
    progress: Progress,
) -> MlperfResults:
    """Run all candidates, scenario by scenario. Each result is told as soon as it is there.

    Args:
        candidates: Verified runtimes of one network.
        scenarios: Names of `LOADGEN_NAMES`.
        seconds: Least duration of a run.
        latency_bound: Seconds within which a server must answer 99 of 100 queries.
        folder: For temporary files.
        kept: Folder to keep LoadGen's logs in, by runtime and scenario; None drops them.
        progress: Called with one line for each step.
    """
    text = _text_of(next(iter(candidates.values())))
    file = folder / "text.safetensors"
    write_text(file, text.token_ids)
    version = importlib.metadata.version("mlcommons-loadgen")
    results = MlperfResults(seconds, latency_bound, version, text.source)
    for scenario in scenarios:
        for name, candidate in candidates.items():
            place = Path(name.replace(" ", "-"), LOADGEN_NAMES[scenario])
            task = MlperfTask(scenario, file, folder / LOGS / place)
            progress(f"LoadGen, {scenario}: {name}, {seconds:g} s or longer")
            try:
                run = _run(name, candidate, task, results)
            except (CrashError, RefusedError) as error:
                results.failed[f"{name}, {scenario}"] = str(error)
                progress(f"{name}, {scenario}: {error}")
                continue
            results.runs.append(run)
            progress(run_line(run))
            if kept is not None:
                _keep(task, kept / place, f"{name}, {scenario}", results)
    return results


def _run(name: str, candidate: Candidate, task: MlperfTask, results: MlperfResults) -> MlperfRun:
    report = run_mlperf_job(candidate, task, results.seconds, results.latency_bound)
    task = replace(task, precision=report.pop("precision"))
    run = MlperfRun.from_json(report | {"runtime": name})
    results.summaries[f"{name}, {task.scenario}"] = read_bytes(task.logs / SUMMARY).decode()
    try:
        outputs = Audit(**run_output_audit_job(candidate, task))
    except (CrashError, RefusedError) as error:
        outputs = Audit("TEST01", False, f"it could not run: {error}")
    return replace(run, audits=[outputs, *run.audits])


def _keep(task: MlperfTask, folder: Path, name: str, results: MlperfResults) -> None:
    """Copy LoadGen's logs; a disk that is full loses them, and nothing else."""
    target = folder / task.logs.relative_to(task.folder)
    try:
        make_folder(target)
        for log in (SUMMARY, DETAIL, OUTPUTS):
            write_atomically(target / log, read_bytes(task.logs / log))
    except StorageError as error:
        results.unsaved[name] = str(error)


def _text_of(candidate: Candidate) -> Text:
    """The test split of the run's corpus; random tokens where there is none."""
    source = candidate.source
    if source.original is not None and not source.original.is_file():
        try:
            corpus = Run(source.original).corpus("test")
        except LmtoolError:
            pass  # a corpus that was moved or changed
        else:
            tokens = corpus.ids["test"][:_MOST_TOKENS].astype(np.int64)
            return Text(tokens, f"the test split of {Path(corpus.name).name}")
    size = len(Artifact.read(source.artifact).vocabulary)
    return Text(np.random.default_rng(0).integers(0, size, _RANDOM_TOKENS), "random tokens: there is no corpus here")

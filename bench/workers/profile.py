"""Worker: profile the calls of one backend.

    python -m lmtool.bench.workers.profile JOB

Blocks of calls with and without the profiler alternate, because a machine's speed drifts.
"""

import gc
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..backends.registry import load_backend
from ..environment import pin
from ..profile.operator_profile import OperatorProfile
from ..profile.profilers import load_profiler
from ..scenario import Scenario
from .job import Job, run_job
from .workload import workload

_BLOCKS = 10
_WARM_UP = 3
_MOST_CALLS = 200
"""In a block; onnxruntime keeps a million events of a session at most."""


def profile_scenario(job: Job, scenario: Scenario, folder: Path) -> OperatorProfile:
    """Profile the calls of a scenario; files of the profiler go into `folder`.

    Raises:
        BenchError: The backend has no profiler, or its profile is damaged.
        LmtoolError: It refuses the file.
    """
    profiler = load_profiler(job.backend, job.source, scenario, folder)
    plain = workload(load_backend(job.backend, job.source), scenario)
    shortest = min(_timed(plain) + _timed(profiler.call) for _ in range(_WARM_UP)) / 2
    calls = min(max(int(job.seconds / _BLOCKS / shortest), 1), _MOST_CALLS)
    seconds, profiled = list[list[float]](), list[list[float]]()
    for _ in range(_BLOCKS):
        seconds.append([_timed(plain) for _ in range(calls)])
        with profiler.block():
            profiled.append([_timed(profiler.call) for _ in range(calls)])
    spans = profiler.spans(list(itertools.chain(*profiled)))
    return OperatorProfile.of(job.backend, scenario, seconds, profiled, spans)


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _profile(job: Job) -> dict[str, Any]:
    if job.source.provider == "cpu":
        pin(job.source.threads)
    gc.disable()
    return {"profiles": [profile_scenario(job, scenario, Path.cwd()).to_json() for scenario in job.scenarios]}


if __name__ == "__main__":
    run_job(_profile)

"""Worker: one run of LoadGen over one backend, by MLPerf's rules.

    python -m lmtool.bench.mlperf.measure JOB

Every backend runs behind lmtool's predictor. The process is not pinned, because LoadGen has threads beside the calls.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ...runtime.predictor import Predictor
from ..backends.registry import BACKENDS
from ..environment import peak_bytes
from ..load.loadgen import stop_at_sigint
from ..workers.job import Job, MlperfTask, run_job
from .batched_run import measure_batches
from .results import MlperfRun
from .samples import SampleLibrary, read_text
from .server_run import measure_server


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
        return measure_server(predictor, library, task, seconds, bound)
    return measure_batches(predictor, library, task, seconds)


def _measure(job: Job) -> Mapping[str, Any]:
    task = job.mlperf
    assert task is not None
    backend = BACKENDS[job.backend].load(job.source)
    library = SampleLibrary.read(backend.predictor, read_text(task.text))
    run = measure(backend.predictor, library, task, job.seconds, job.latency_bound)
    library.write(task.samples)
    precision = backend.predictor.artifact.precision
    return {**asdict(run), "peak_bytes": peak_bytes(backend.pid), "precision": precision}


if __name__ == "__main__":
    stop_at_sigint()
    run_job(_measure)

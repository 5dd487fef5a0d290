"""Worker: compare the outputs that LoadGen logged with those of the reference.

python -m lmtool.bench.mlperf.check_outputs JOB
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..load.loadgen_logs import read_outputs
from ..workers.job import Job, run_job
from ..workers.verify import reference_for
from .audits import audit_outputs
from .samples import SampleLibrary


def _check(job: Job) -> Mapping[str, Any]:
    task = job.mlperf
    assert task is not None
    reference = reference_for(job.backend, job.source)
    library = SampleLibrary.load(task.samples)
    return asdict(audit_outputs(reference, library, task.precision, *read_outputs(task.logs)))


if __name__ == "__main__":
    run_job(_check)

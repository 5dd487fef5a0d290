"""Worker: compare one backend with its reference.

    python -m lmtool.bench.workers.verify JOB

The reference of a language model is the PyTorch original. Without its run folder it is onnx's reference evaluator,
which implements the operators' specification in numpy. To verify that evaluator itself, and where it lacks an operator,
it is onnxruntime without graph optimizations, which shares only onnxruntime's kernels.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...export.exporter import reference_of
from ...export.reference import PredictorReference, Reference
from ...export.unsigned_weights import unsigned_weights
from ...export.verification import verify
from ...model.run import Run
from ...runtime.artifact.artifact import Artifact
from ...runtime.io.files import read_bytes
from ...runtime.predictor import Predictor
from ...runtime.session.providers import PROVIDERS, import_onnxruntime
from ...runtime.session.session import SessionOptions, plain_session
from ..backends.registry import BACKENDS, ONNXRUNTIME, REFERENCE
from ..backends.source import Source
from ..roofline import measure_roofline
from ..scenario import Scenario
from ..stateful.verification import verify_stateful
from .job import Job, run_job

_MOST_TOKENS = 5000
_DRAWN_TOKENS = 500
_LOOP_STEPS = 200


def verify_backend(backend: str, source: Source, scenarios: Sequence[Scenario] = ()) -> dict[str, Any]:
    """Compare a backend with its reference; calls of the scenarios' sizes are compared besides the usual ones.

    The report of onnxruntime also holds where its nodes run and, on the CPU, the bound of a step.

    Raises:
        StorageError: The artifact cannot be read.
        ArtifactError: The artifact cannot be used.
        RunError: The run is missing or unfinished.
        CheckpointError: The checkpoint is damaged or does not fit.
    """
    predictor = BACKENDS[backend].load(source).predictor
    shapes = list(dict.fromkeys(scenario.shape for scenario in scenarios if scenario.shape is not None))
    report = verify(reference_for(backend, source), predictor, _LOOP_STEPS, _DRAWN_TOKENS, shapes).to_json()
    report["provider"] = source.provider
    if backend == ONNXRUNTIME:
        report["placement"] = predictor.placement
        if source.provider == "cpu":
            report["roofline"] = asdict(measure_roofline(source.artifact))
    return report


def reference_for(backend: str, source: Source) -> Reference:
    """What a backend is compared with.

    Raises:
        StorageError: The artifact cannot be read.
        ArtifactError: The artifact cannot be used.
        RunError: The run is missing or unfinished.
        CheckpointError: The checkpoint is damaged or does not fit.
    """
    if source.original is not None and not source.original.is_file():
        return reference_of(Run(source.original), _MOST_TOKENS)
    file = source.original or source.artifact
    data = read_bytes(file)
    artifact = Artifact.parse(data, str(file))
    if backend == REFERENCE:
        return _unoptimized(artifact, data, source.threads, "")
    try:
        return _evaluated(file)
    except Exception as error:  # the file is sound, so the evaluator failed, and its errors share no class
        reason = " ".join(str(error.__cause__ or error).split())
        return _unoptimized(artifact, data, source.threads, f"; onnx.reference cannot run the file: {reason}")


def _evaluated(file: Path) -> PredictorReference:
    import onnx

    predictor = BACKENDS[REFERENCE].load(Source(file)).predictor
    predictor.step(np.zeros((1, 1), np.int64), predictor.initial_state(1))
    return PredictorReference(predictor, f"onnx.reference {onnx.__version__} over {file.name}")


def _unoptimized(artifact: Artifact, data: bytes, threads: int, reason: str) -> PredictorReference:
    session = plain_session(unsigned_weights(data), threads)
    predictor = Predictor(artifact, session, PROVIDERS["cpu"], SessionOptions(threads))
    version = import_onnxruntime().__version__
    return PredictorReference(predictor, f"onnxruntime {version} without graph optimizations{reason}")


def _verify(job: Job) -> dict[str, Any]:
    if job.source.calls is not None:
        return verify_stateful(job.backend, job.source, job.source.calls, job.scenarios)
    return verify_backend(job.backend, job.source, job.scenarios)


if __name__ == "__main__":
    run_job(_verify)

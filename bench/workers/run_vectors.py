"""Worker: run the test vectors beside an artifact in one backend.

python -m lmtool.bench.workers.run_vectors JOB
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np

from ...export.parity import Array, Case
from ...export.test_vectors.files import read_vectors
from ...export.test_vectors.vectors import VectorSet, run_loop, run_set
from ...runtime.artifact.artifact import LOGITS
from ..backends.node_process import versions
from ..backends.registry import BACKENDS, REFERENCE
from ..backends.source import Source
from .job import run_job

_DISTRIBUTIONS = {REFERENCE: "onnx", "opencv": "opencv-python-headless", "iree": "iree-base-runtime"}


def run_vectors(backend: str, source: Source) -> dict[str, Any]:
    """Version of the backend, the worst case of each tensor, and the greedy tokens that differ in the closed loop."""
    predictor = BACKENDS[backend].load(source).predictor
    vectors = read_vectors(source.artifact, predictor.artifact)
    cases = [case for each in vectors.sets for case in each.compare(run_set(predictor, each.inputs))]
    loop = list(run_loop(predictor, vectors.sets))
    loop_cases = [case for step, outputs in loop for case in step.compare(outputs)]
    return {
        "version": _version(backend),
        "bound": vectors.bound,
        "expected_from": vectors.expected_from,
        "calls": len(vectors.sets),
        "loop_steps": len(loop),
        "loop_differences": sum(_is_wrong_token(step, outputs, vectors.bound) for step, outputs in loop),
        "cases": [asdict(case) for case in _worst([*cases, *loop_cases])],
    }


def _is_wrong_token(step: VectorSet, outputs: Mapping[str, Array], bound: float) -> bool:
    """Whether the expected logit of the greedy token is below the largest by more than rounding."""
    expected, chosen = step.outputs[LOGITS][0, 0], int(outputs[LOGITS][0, 0].argmax())
    scale = max(float(np.abs(expected).max()), 1.0)
    return not expected.max() - expected[chosen] <= 2 * bound * scale


def _worst(cases: Sequence[Case]) -> list[Case]:
    """The case of each tensor with the largest difference."""
    worst: dict[str, Case] = {}
    for case in cases:
        if case.tensor not in worst or case.difference > worst[case.tensor].difference:
            worst[case.tensor] = case
    return list(worst.values())


def _version(backend: str) -> str:
    distribution = _DISTRIBUTIONS.get(backend, backend)
    for name in (distribution, f"{distribution}-gpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions().get(backend, "unknown")


if __name__ == "__main__":
    run_job(lambda job: run_vectors(job.backend, job.source))

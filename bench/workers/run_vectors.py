"""Worker: run the test vectors beside an artifact in one backend.

python -m lmtool.bench.workers.run_vectors JOB
"""

from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np

from ...export.parity import Case
from ...export.test_vectors.files import read_vectors
from ...export.test_vectors.vectors import Vectors, VectorSet, run_set
from ...runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS
from ...runtime.predictor import Predictor
from ..backends.node_process import versions
from ..backends.registry import BACKENDS, REFERENCE, Source
from .job import run_job

_DISTRIBUTIONS = {REFERENCE: "onnx"}


def run_vectors(backend: str, source: Source) -> dict[str, Any]:
    """Version of the backend, the worst case of each tensor, and the greedy tokens that differ in the closed loop."""
    predictor = BACKENDS[backend].load(source).predictor
    vectors = read_vectors(source.artifact, predictor.artifact)
    cases = [case for each in vectors.sets for case in each.compare(run_set(predictor, each.inputs))]
    loop = [each for each in vectors.sets if each.in_loop]
    loop_cases, differences = _closed_loop(predictor, loop, vectors)
    return {
        "version": _version(backend),
        "bound": vectors.bound,
        "expected_from": vectors.expected_from,
        "calls": len(vectors.sets),
        "loop_steps": len(loop),
        "loop_differences": differences,
        "cases": [asdict(case) for case in _worst([*cases, *loop_cases])],
    }


def _closed_loop(predictor: Predictor, loop: Sequence[VectorSet], vectors: Vectors) -> tuple[list[Case], int]:
    """Run the loop's steps on the backend's own states; returns the cases and the number of wrong greedy tokens.

    Each step reads the expected token, so that one difference does not hide later ones. A token counts as wrong if its
    expected logit is below the largest by more than rounding.
    """
    cases: list[Case] = []
    differences = 0
    if not loop:
        return cases, differences
    states = {name: array for name, array in loop[0].inputs.items() if name != TOKEN_IDS}
    for step in loop:
        outputs = run_set(predictor, {TOKEN_IDS: step.inputs[TOKEN_IDS], **states})
        cases += step.compare(outputs)
        expected, chosen = step.outputs[LOGITS][0, 0], int(outputs[LOGITS][0, 0].argmax())
        scale = max(float(np.abs(expected).max()), 1.0)
        differences += not expected.max() - expected[chosen] <= 2 * vectors.bound * scale
        states = {name: outputs[f"{NEXT}{name}"] for name in states}
    return cases, differences


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

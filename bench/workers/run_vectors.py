"""One runtime over the test vectors beside an artifact, in a process of its own: what it gives, and how far off.

python -m lmtool.bench.workers.run_vectors --runtime NAME --artifact FILE --out FILE
    [--original RUN] [--provider P] [--threads N]
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


def run_vectors(name: str, source: Source) -> dict[str, Any]:
    """What a runtime gives for the vectors: the worst case of each tensor, the closed loop on its own, its version."""
    predictor = BACKENDS[name].load(source).predictor
    vectors = read_vectors(source.artifact, predictor.artifact)
    cases = [case for found in vectors.sets for case in found.compare(run_set(predictor, found.inputs))]
    loop = [found for found in vectors.sets if found.in_loop]
    looped, differences = _closed_loop(predictor, loop, vectors)
    return {
        "version": _version(name),
        "bound": vectors.bound,
        "expected_from": vectors.expected_from,
        "calls": len(vectors.sets),
        "loop_steps": len(loop),
        "loop_differences": differences,
        "cases": [asdict(case) for case in _worst([*cases, *looped])],
    }


def _closed_loop(predictor: Predictor, loop: Sequence[VectorSet], vectors: Vectors) -> tuple[list[Case], int]:
    """The steps on the runtime's own states, and how many of its most probable tokens are not the next step's.

    Each step reads the expected token all the same, so that one difference does not hide what comes after it. A token
    that is less probable than the expected one by no more than rounding is no difference.
    """
    cases: list[Case] = []
    differences = 0
    if not loop:
        return cases, differences
    states = {name: array for name, array in loop[0].inputs.items() if name != TOKEN_IDS}
    for step in loop:
        found = run_set(predictor, {TOKEN_IDS: step.inputs[TOKEN_IDS], **states})
        cases += step.compare(found)
        expected, chosen = step.outputs[LOGITS][0, 0], int(found[LOGITS][0, 0].argmax())
        scale = max(float(np.abs(expected).max()), 1.0)
        differences += not expected.max() - expected[chosen] <= 2 * vectors.bound * scale
        states = {name: found[f"{NEXT}{name}"] for name in states}
    return cases, differences


def _worst(cases: Sequence[Case]) -> list[Case]:
    """Of each tensor the case that differs most."""
    found: dict[str, Case] = {}
    for case in cases:
        if case.tensor not in found or case.difference > found[case.tensor].difference:
            found[case.tensor] = case
    return list(found.values())


def _version(name: str) -> str:
    distribution = _DISTRIBUTIONS.get(name, name)
    for known in (distribution, f"{distribution}-gpu"):
        try:
            return metadata.version(known)
        except metadata.PackageNotFoundError:
            continue
    return versions().get(name, "unknown")


if __name__ == "__main__":
    run_job(lambda job: run_vectors(job.backend, job.source))

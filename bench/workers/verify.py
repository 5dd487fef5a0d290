"""What a runtime is verified against: the PyTorch original, or where its run is not at hand an independent computation.

That is onnx's reference evaluator, numpy written from the operators' specification. For itself, and for operators that
it lacks, it is onnxruntime without graph optimizations: independent of all but onnxruntime's kernels.

python -m lmtool.bench.workers.verify --runtime NAME --artifact FILE --out FILE
    [--original RUN|FILE] [--provider P] [--threads N] [--shape BATCHxTIME ...]
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
from ..backends.registry import BACKENDS, ONNXRUNTIME, REFERENCE, Source
from ..roofline import measure_roofline
from .job import answer, source_of, source_parser


def original_for(runtime: str, source: Source, most_tokens: int) -> Reference:
    """What a runtime has to agree with.

    Args:
        runtime: One of `BACKENDS`.
        source: What it loads; its original may be a run folder, an artifact of the same network, or None for the file
            itself.
        most_tokens: Use so many tokens of a corpus' text at most.

    Raises:
        StorageError: The artifact cannot be read.
        ArtifactError: It cannot be used.
        RunError: The run is missing or unfinished.
        CheckpointError: The checkpoint is damaged or does not fit.
    """
    if source.original is not None and not source.original.is_file():
        return reference_of(Run(source.original), most_tokens)
    file = source.original or source.artifact
    data = read_bytes(file)
    artifact = Artifact.parse(data, str(file))
    if runtime == REFERENCE:
        return _unoptimized(artifact, data, source.threads, "")
    try:
        return _evaluated(file)
    except Exception as error:  # the file is sound, so this is the evaluator's, and those have no common class
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


_TOKENS = 5000
_DRAWN_TOKENS = 500
_LOOP_STEPS = 200


def verify_runtime(name: str, source: Source, shapes: Sequence[tuple[int, int]] = ()) -> dict[str, Any]:
    """What the comparison with its original found; of onnxruntime also where the nodes run, and on a CPU its floor.

    `shapes`: (batch, time) of calls that are compared beside the usual ones.
    """
    predictor = BACKENDS[name].load(source).predictor
    original = original_for(name, source, _TOKENS)
    report = verify(original, predictor, _LOOP_STEPS, _DRAWN_TOKENS, shapes).to_json()
    report["provider"] = source.provider
    if name == ONNXRUNTIME:
        report["placement"] = predictor.placement
        if source.provider == "cpu":
            report["roofline"] = asdict(measure_roofline(source.artifact))
    return report


def main() -> None:
    """Parse the arguments, verify, write one JSON object."""
    parser = source_parser("workers.verify", __doc__)
    parser.add_argument("--shape", action="append", default=[], help="BATCHxTIME of a call to compare; repeatable")
    chosen = parser.parse_args()
    shapes = [(int(batch), int(time)) for batch, time in (shape.split("x") for shape in chosen.shape)]
    answer(chosen.out, lambda: verify_runtime(chosen.runtime, source_of(chosen), shapes))


if __name__ == "__main__":
    main()

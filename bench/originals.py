"""What a runtime is verified against: the PyTorch original, or where its run is not at hand an independent computation.

That is onnx's reference evaluator, numpy written from the operators' specification. For itself, and for operators that
it lacks, it is onnxruntime without graph optimizations: independent of all but onnxruntime's kernels.
"""

from pathlib import Path

import numpy as np

from ..export.exporting import original_of
from ..export.original import Original, PredictorOriginal
from ..model.run import Run
from ..runtime.artifact import Artifact
from ..runtime.files import read_bytes
from ..runtime.predictor import Predictor
from ..runtime.providers import PROVIDERS, import_onnxruntime
from ..runtime.session import SessionOptions
from .plain_session import plain_session
from .runtimes import KINDS, REFERENCE, Source


def original_for(runtime: str, source: Source, most_tokens: int) -> Original:
    """What a runtime has to agree with.

    Args:
        runtime: One of `KINDS`.
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
        return original_of(Run(source.original), most_tokens)
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


def _evaluated(file: Path) -> PredictorOriginal:
    import onnx

    predictor = KINDS[REFERENCE].make(Source(file)).predictor
    predictor.step(np.zeros((1, 1), np.int64), predictor.initial_state(1))
    return PredictorOriginal(predictor, f"onnx.reference {onnx.__version__} over {file.name}")


def _unoptimized(artifact: Artifact, data: bytes, threads: int, reason: str) -> PredictorOriginal:
    session = plain_session(data, threads)
    predictor = Predictor(artifact, session, PROVIDERS["cpu"], SessionOptions(threads))
    version = import_onnxruntime().__version__
    return PredictorOriginal(predictor, f"onnxruntime {version} without graph optimizations{reason}")

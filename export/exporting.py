"""Export: a run's best checkpoint becomes one artifact, verified before it appears under its name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray

from ..model.errors import DataError
from ..model.network import LanguageModel
from ..model.run import Run
from ..runtime.artifact import FORMAT
from ..runtime.errors import StorageError
from ..runtime.files import write_atomically
from ..runtime.predictor import Predictor
from ..runtime.vocabulary import Vocabulary
from .errors import ExportError, ParityError
from .graph import build_graph
from .parity import BOUNDS, ParityReport
from .quantization import quantize_int8
from .sealing import seal
from .verification import verify
from .weights import Weights

OPSETS = range(17, 22)
DEFAULT_OPSET = 17
_SIZE_LIMIT_BYTES = 2**31 - 2**24


@final
@dataclass(frozen=True)
class Export:
    """A written artifact.

    Attributes:
        path: Where it is.
        size_bytes: Its size.
        report: What its verification measured.
    """

    path: Path
    size_bytes: int
    report: ParityReport


def export_run(run: Run, precision: str = "fp32", out: Path | None = None, opset: int = DEFAULT_OPSET) -> Export:
    """Write the artifact of a run, and beside it in the run folder the report of its verification.

    Args:
        run: A trained run.
        precision: `fp32` or `int8`.
        out: Where to write; None for `RUN/model.onnx`, `RUN/model.int8.onnx`.
        opset: ONNX operator set, 17 to 21.

    Raises:
        ExportError: Precision or opset is not one of ours, or the network is too large for one file.
        RunError: The run is missing or unfinished.
        CheckpointError: The checkpoint is damaged or does not fit.
        ParityError: The artifact differs from the original by more than its precision allows; nothing is written.
        StorageError: The file cannot be written; what was there before is untouched.
    """
    _check_options(precision, opset)
    network, checkpoint = run.trained()
    path = run.artifact(precision) if out is None else out
    _check_writable(path)
    model = build_model(network, precision, opset)
    metadata = _metadata(network, run.vocabulary(), precision, run.training_facts(checkpoint))
    report = verify(network, Predictor.load(seal(model, metadata)), held_out_tokens(run))
    write_report(run, report)
    if not report.passed:
        raise ParityError(
            f"the {precision} export of {run.path} does not match the original, so it was not written: "
            f"{'; '.join(report.failures)}"
        )
    metadata["lmtool.batch_invariant"] = json.dumps(report.batch_invariant)
    metadata["lmtool.parity"] = _compact(report.summary())
    data = seal(model, metadata)
    Predictor.load(data)
    write_atomically(path, data)
    return Export(path, len(data), report)


def verify_artifact(path: Path, run: Path | None = None, provider: str = "cpu") -> ParityReport:
    """Compare an artifact with its original.

    Args:
        path: The artifact.
        run: The original's run folder; None for the artifact's own folder.
        provider: Execution provider of the artifact.

    Raises:
        ArtifactError: The artifact cannot be used, or has other sizes than the original.
        RunError: There is no run there.
        ProviderError: The provider is not there.
    """
    original = Run(path.resolve().parent if run is None else run)
    predictor = Predictor.load(path, provider=provider)
    return verify(original.trained()[0], predictor, held_out_tokens(original))


def build_model(network: LanguageModel, precision: str, opset: int = DEFAULT_OPSET) -> onnx.ModelProto:
    """The checked ONNX model of a network, without metadata.

    Raises:
        ExportError: The network is too large for one ONNX file.
    """
    size = sum(parameter.numel() for parameter in network.parameters()) * 4
    if size > _SIZE_LIMIT_BYTES:
        raise ExportError(
            f"the network has {size:,} bytes of weights; one ONNX file holds at most {_SIZE_LIMIT_BYTES:,}"
        )
    # The quantizer scales embedding and projection apart, so tied weights are stored twice in int8.
    weights = Weights.of(network, untie=precision == "int8")
    model = build_graph(network.architecture, weights, opset)
    if precision == "int8":
        model = quantize_int8(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def held_out_tokens(run: Run) -> NDArray[np.int32] | None:
    """The test split of the run's corpus, or None where the corpus is not at hand any more."""
    try:
        return run.corpus().ids["test"]
    except (DataError, StorageError):
        return None


def write_report(run: Run, report: ParityReport) -> None:
    """Write the parity report into the run folder: `parity.PRECISION.json`.

    Raises:
        StorageError: It cannot be written.
    """
    text = json.dumps(report.to_json(), indent=1) + "\n"
    write_atomically(run.path / f"parity.{report.precision}.json", text.encode())


def _check_options(precision: str, opset: int) -> None:
    if precision not in BOUNDS:
        raise ExportError(f"precision {precision!r} is not known, expected one of {', '.join(BOUNDS)}")
    if opset not in OPSETS:
        raise ExportError(
            f"opset is {opset}, expected {OPSETS[0]} to {OPSETS[-1]} (CUDA has no LSTM kernel from 22 on)"
        )


def _check_writable(path: Path) -> None:
    """Say before the work, not after it, that the path cannot be written."""
    if path.is_dir():
        raise StorageError(f"cannot write {path}: it is a folder, a file name is expected")
    if not path.parent.is_dir():
        raise StorageError(f"cannot write {path}: there is no folder {path.parent}")


def _metadata(
    network: LanguageModel, vocabulary: Vocabulary, precision: str, training: Mapping[str, Any]
) -> dict[str, str]:
    return {
        "lmtool.format": FORMAT,
        "lmtool.model": _compact(network.architecture.to_json()),
        "lmtool.vocabulary": vocabulary.tokens_json(),
        "lmtool.vocabulary_sha256": vocabulary.sha256,
        "lmtool.tokenization": _compact(vocabulary.tokenization.to_json()),
        "lmtool.training": _compact(training),
        "lmtool.precision": precision,
        "lmtool.batch_invariant": "false",
        "lmtool.parity": "{}",
        "model_type": f"{network.architecture.cell}-language-model",
        "vocab_size": str(len(vocabulary)),
        "unk_id": str(vocabulary.unknown_id),
        "eos_id": str(vocabulary.end_of_sentence_id),
    }


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)

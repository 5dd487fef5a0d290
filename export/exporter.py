"""Export: a run's best checkpoint becomes one artifact, verified before it appears under its name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ..model.errors import DataError, RunError
from ..model.network import LanguageModel
from ..model.run import Run
from ..runtime.artifact.artifact import artifact_metadata
from ..runtime.errors import StorageError
from ..runtime.io.files import json_text, make_folder, write_atomically
from ..runtime.predictor import Predictor
from ..runtime.vocabulary import Vocabulary
from .build import DEFAULT_OPSET, BuildOptions, build_model, seal
from .errors import ParityError
from .parity import ParityReport
from .reference import Text, TorchOriginal
from .sherpa import SHERPA_BOUND, build_sherpa_model, ids_of, read_recognizer_tokens, sherpa_difference
from .test_vectors.files import require_room, write_vectors
from .test_vectors.vectors import compute_vectors
from .verification import verify


@final
@dataclass(frozen=True)
class Export:
    """A written artifact.

    Attributes:
        path: Where it is.
        size_bytes: Its size.
        report: What its verification measured.
        vectors: The index of its test vectors; None where none were asked for.
    """

    path: Path
    size_bytes: int
    report: ParityReport
    vectors: Path | None = None


def export_run(
    run: Run,
    precision: str = "fp32",
    out: Path | None = None,
    opset: int = DEFAULT_OPSET,
    optimize_for: str | None = None,
    test_vectors: bool = False,
) -> Export:
    """Write the artifact of a run, and beside it the report of its verification.

    Args:
        run: A trained run.
        precision: One of `lmtool.runtime.PRECISIONS`.
        out: Where to write; None for `RUN/model.onnx`, `RUN/model.w8.onnx`, `RUN/model.int8-latency.onnx`, ...
        opset: ONNX operator set, 17 to 21.
        optimize_for: For int8, `latency` or `throughput`; None for `throughput`.
        test_vectors: Write inputs and expected outputs beside it, for any runtime to check itself by.

    Raises:
        OptionError: Precision, opset or purpose is not one of ours.
        ExportError: The network is too large for one file, or has layers that the precision cannot take; or test
            vectors of another artifact lie where those of this one would.
        RunError: The run is missing or unfinished.
        CheckpointError: The checkpoint is damaged or does not fit.
        ParityError: The artifact differs from the original by more than its precision allows; nothing is written.
        StorageError: The file cannot be written; what was there before is untouched.
    """
    build = BuildOptions(precision, opset, optimize_for)
    network, checkpoint = run.trained()
    model = build_model(network, build)
    facts = (network, run.vocabulary(), build, run.training_facts(checkpoint))
    candidate = Predictor.load(seal(model, _metadata(*facts)))
    path = run.artifact(candidate.artifact.variant) if out is None else out
    _check_writable(path)
    if test_vectors:
        require_room(path)
    original = original_of(run)
    report = verify(original, candidate)
    if not report.passed:
        write_report(path.parent, report, "rejected")
        raise ParityError(
            f"the {candidate.artifact.variant} export of {run.path} does not match the original and was not written: "
            f"{'; '.join(report.failures)}; all that was compared: {path.parent / f'rejected.{report.variant}.json'}"
        )
    data = seal(model, _metadata(*facts, report))
    sealed = Predictor.load(data)
    write_atomically(path, data)
    write_report(path.parent, report)
    if not test_vectors:
        return Export(path, len(data), report)
    index = write_vectors(compute_vectors(sealed, path.name, original), path.parent)
    return Export(path, len(data), report, index)


def export_sherpa(run: Run, out: Path | None = None, opset: int = DEFAULT_OPSET, tokens: Path | None = None) -> Path:
    """Write the network of a run under sherpa-onnx's names, compared with the original first.

    Args:
        run: A trained run of LSTM layers of one size.
        out: Where to write; None for `RUN/sherpa/model.onnx`.
        opset: ONNX operator set, 17 to 21.
        tokens: The recognizer's `tokens.txt`, whose ids the model then takes; None for the vocabulary's own ids.

    Raises:
        ExportError: The layers are of other kinds or sizes, or the tokens are not the recognizer's or not ours.
        ParityError: It does not compute what the original computes; nothing is written.
        RunError: The run is missing or unfinished.
        StorageError: The file cannot be written.
    """
    network, _ = run.trained()
    path = run.path / "sherpa" / "model.onnx" if out is None else out
    if out is None:
        make_folder(path.parent)
    vocabulary = run.vocabulary()
    theirs = None if tokens is None else read_recognizer_tokens(tokens)
    data = build_sherpa_model(network, vocabulary, opset, theirs).SerializeToString(deterministic=True)
    difference = sherpa_difference(network, data, None if theirs is None else ids_of(theirs, vocabulary))
    if not difference <= SHERPA_BOUND:
        raise ParityError(
            f"the sherpa export of {run.path} differs from the original by {difference:.1e}, allowed {SHERPA_BOUND:g}, "
            "and was not written"
        )
    write_atomically(path, data)
    return path


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
    predictor = Predictor.load(path, provider=provider)
    original = Run(path.resolve().parent if run is None else run)
    if run is None and not original.best.exists():
        raise RunError(f"there is no PyTorch original beside {path}; name the run it was exported from: --run DIR")
    return verify(original_of(original), predictor)


def original_of(run: Run, most_tokens: int | None = None) -> TorchOriginal:
    """The trained network of a run, with the test text of its corpus where that is still at hand.

    Args:
        run: A trained run.
        most_tokens: Use so many tokens of the text at most; None for all.

    Raises:
        RunError: The run is missing or unfinished.
        CheckpointError: The checkpoint is damaged or does not fit.
    """
    network, vocabulary, name = run.trained()[0], run.vocabulary(), f"PyTorch run {run.path.name}"
    try:
        corpus = run.corpus()
    except (DataError, StorageError):
        return TorchOriginal(network, vocabulary, None, name)
    text = Text(corpus.ids["test"][:most_tokens], f"the test split of {Path(corpus.name).name}")
    return TorchOriginal(network, vocabulary, text, name)


def write_report(folder: Path, report: ParityReport, kind: str = "parity") -> None:
    """Write the report beside the artifact: `parity.VARIANT.json`, or `rejected.VARIANT.json`.

    Raises:
        StorageError: It cannot be written.
    """
    write_atomically(folder / f"{kind}.{report.variant}.json", f"{json_text(report.to_json(), indent=1)}\n".encode())


def _check_writable(path: Path) -> None:
    """Say before the work, not after it, that the path cannot be written."""
    if path.is_dir():
        raise StorageError(f"cannot write {path}: it is a folder, a file name is expected")
    if not path.parent.is_dir():
        raise StorageError(f"cannot write {path}: there is no folder {path.parent}")


def _metadata(
    network: LanguageModel,
    vocabulary: Vocabulary,
    build: BuildOptions,
    training: Mapping[str, Any],
    report: ParityReport | None = None,
) -> dict[str, str]:
    """The artifact's metadata, and the entries that sherpa-onnx reads."""
    return {
        **artifact_metadata(
            network.architecture,
            vocabulary,
            build.precision,
            optimize_for=build.purpose,
            batch_invariant=report is not None and report.batch_invariant,
            training=training,
            parity=None if report is None else report.summary(),
        ),
        "model_type": f"{network.architecture.cell}-language-model",
        "vocab_size": str(len(vocabulary)),
        "unk_id": str(vocabulary.unknown_id),
        "eos_id": str(vocabulary.end_of_sentence_id),
    }

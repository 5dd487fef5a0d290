"""Export a run's best checkpoint as one artifact, verified before it is written."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from ..model.data.texts import find_texts
from ..model.errors import DataError, RunError
from ..model.network import LanguageModel
from ..model.run import Run
from ..runtime.artifact.summary import training_warning
from ..runtime.errors import StorageError
from ..runtime.io.files import make_folder, write_atomically
from ..runtime.predictor import Predictor
from ..runtime.vocabulary import Vocabulary
from .build import DEFAULT_OPSET, BuildOptions
from .candidate import Candidate, check_writable
from .errors import ParityError
from .formats.recognizer_tokens import ids_of, read_recognizer_tokens, recognizer_tokens, tokens_text
from .formats.sherpa import build_sherpa_model, sherpa_difference
from .parity import ParityReport
from .reference import Text, TorchReference
from .test_vectors.files import require_room, write_vectors
from .test_vectors.text_cases import write_text_cases
from .test_vectors.vectors import compute_vectors
from .tolerances import SHERPA_BOUND
from .verification import verify

if TYPE_CHECKING:
    from ..model.tokenizer.agreement import Agreement


@final
@dataclass(frozen=True)
class Export:
    """A written artifact.

    Attributes:
        path: The file.
        size_bytes: Its size.
        report: The report of its verification.
        vectors: The index of its test vectors; None without test vectors.
        warning: That the network is worse than word frequencies; empty without reason.
        agreement: The comparison of its tokens with those of the library that learnt them; None for rules without one.
        tokenizer: Its `tokenizer.json`; None if it was not wanted.
    """

    path: Path
    size_bytes: int
    report: ParityReport
    vectors: Path | None = None
    warning: str = ""
    agreement: "Agreement | None" = None
    tokenizer: Path | None = None


def export_run(
    run: Run,
    precision: str = "fp32",
    out: Path | None = None,
    opset: int = DEFAULT_OPSET,
    test_vectors: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    tokenizer: bool = False,
) -> Export:
    """Write the artifact of a run and the report of its verification.

    Args:
        run: A trained run.
        precision: One of `lmtool.runtime.PRECISIONS`.
        out: The file to write; None for `RUN/model.onnx`, `RUN/model.int8.onnx`, ...
        opset: ONNX operator set, 17 to 21.
        test_vectors: Also write inputs and expected outputs, with which any runtime can be checked.
        progress: Called with a line once the run is read.
        tokenizer: Also write `tokenizer.json` of the rule `bpe` beside it.

    Raises:
        OptionError: Precision or opset is not known.
        ExportError: The network is too large for one file, the folder holds test vectors of another artifact, or the
            rule has no `tokenizer.json`.
        RunError: The run is missing or unfinished.
        CheckpointError: The checkpoint is damaged or does not fit.
        ParityError: The artifact differs from the original by more than its precision allows, an int8 artifact computes
            other bits in a batch or in chunks, or its subwords are not those of the library that learnt them; it is not
            written.
        StorageError: The file cannot be written; an earlier file stays as it is.
    """
    build = BuildOptions(precision, opset)
    network, checkpoint = run.trained()
    progress(f"exporting {run.path} to {precision} and verifying it")
    vocabulary, training = run.vocabulary(), run.training_facts(checkpoint)
    candidate = Candidate(network, vocabulary, build, training)
    path = run.artifact(candidate.predictor.artifact.variant) if out is None else out
    check_writable(path)
    if test_vectors:
        require_room(path)
    tokenizer_file = _tokenizer_file(path, vocabulary) if tokenizer else None
    reference = _reference(run, network, vocabulary)
    report = verify(reference, candidate.predictor)
    agreement = _agreement(run, candidate.predictor.vocabulary, has_corpus=reference.text is not None)
    proofs = {} if agreement is None else {"tokenizer": agreement.to_json()}
    sealed = candidate.write(path, report, str(run.path), _token_failures(agreement), proofs)
    if tokenizer_file is not None:
        _write_tokenizer(vocabulary, tokenizer_file)
    index = _write_vectors(sealed, path, reference) if test_vectors else None
    return Export(path, path.stat().st_size, report, index, training_warning(training), agreement, tokenizer_file)


def _write_vectors(sealed: Predictor, path: Path, reference: TorchReference) -> Path:
    """Write the test vectors and the text cases of an artifact beside it; returns the index of the vectors."""
    write_text_cases(sealed.vocabulary, path.name, sealed.artifact.sha256, path.parent)
    return write_vectors(compute_vectors(sealed, path.name, reference), path.parent)


def _agreement(run: Run, vocabulary: Vocabulary, has_corpus: bool) -> "Agreement | None":
    """The comparison of subwords with those of the library that learnt them; None for other rules."""
    if vocabulary.tokenization.unit != "subword":
        return None
    from ..model.tokenizer.agreement import compare_ids  # few exports need tokenizers

    if not has_corpus:
        return compare_ids(vocabulary, (), "")
    name = run.corpus_name()
    return compare_ids(vocabulary, find_texts(name).splits().values(), f"all of {Path(name).name}")


def _token_failures(agreement: "Agreement | None") -> list[str]:
    if agreement is None or not agreement.difference:
        return []
    return [f"its tokens are not those of the library: {agreement.difference}"]


def _tokenizer_file(path: Path, vocabulary: Vocabulary) -> Path:
    """Where `tokenizer.json` is written; checks now that it can be made."""
    from ..model.tokenizer.hugging_face import library_tokenizer

    library_tokenizer(vocabulary)
    return path.parent / "tokenizer.json"


def _write_tokenizer(vocabulary: Vocabulary, path: Path) -> None:
    from ..model.tokenizer.hugging_face import write_tokenizer_json

    write_tokenizer_json(vocabulary, path)


@final
@dataclass(frozen=True)
class SherpaExport:
    """A written model for sherpa-onnx.

    Attributes:
        path: The file.
        tokens: The `tokens.txt` that was written beside it; None where the recognizer's is there already.
    """

    path: Path
    tokens: Path | None = None


def export_sherpa(
    run: Run, out: Path | None = None, opset: int = DEFAULT_OPSET, tokens: Path | None = None
) -> SherpaExport:
    """Write the network of a run under sherpa-onnx's names, verified first.

    Args:
        run: A trained run of LSTM layers of one size.
        out: The file to write; None for `RUN/sherpa/model.onnx`.
        opset: ONNX operator set, 17 to 21.
        tokens: The recognizer's `tokens.txt`; the model then takes its ids. None for the ids of the vocabulary; of the
            rule `bpe` they follow the blank, 0, and the recognizer's `tokens.txt` is written beside the model.

    Raises:
        ExportError: The layers are not LSTMs of one size, `tokens` is damaged, or its tokens are not the vocabulary's.
        ParityError: The model differs from the original; nothing is written.
        RunError: The run is missing or unfinished.
        StorageError: A file cannot be written.
    """
    network, _ = run.trained()
    path = run.path / "sherpa" / "model.onnx" if out is None else out
    if out is None:
        make_folder(path.parent)
    vocabulary = run.vocabulary()
    own = recognizer_tokens(vocabulary) if tokens is None and vocabulary.tokenization.unit == "subword" else None
    symbols = own if tokens is None else read_recognizer_tokens(tokens)
    ids = None if symbols is None else ids_of(symbols, vocabulary)
    data = build_sherpa_model(network, vocabulary, opset, ids).SerializeToString(deterministic=True)
    difference = sherpa_difference(network, data, ids)
    if not difference <= SHERPA_BOUND:
        raise ParityError(
            f"the sherpa export of {run.path} differs from the original by {difference:.1e}, allowed {SHERPA_BOUND:g}, "
            f"and was not written; see whether the ONNX export passes: lmtool export --run {run.path}"
        )
    write_atomically(path, data)
    if own is None:
        return SherpaExport(path)
    beside = path.with_suffix(".tokens.txt")
    write_atomically(beside, tokens_text(own).encode())
    return SherpaExport(path, beside)


def verify_artifact(path: Path, run: Path | None = None, provider: str = "cpu") -> ParityReport:
    """Compare an artifact with its original.

    Args:
        path: The artifact.
        run: The run folder it was exported from; None for the artifact's folder.
        provider: Execution provider of the artifact.

    Raises:
        ArtifactError: The artifact cannot be used, or has other sizes than the original.
        RunError: The folder holds no trained run.
        ProviderError: The provider is not available.
    """
    predictor = Predictor.load(path, provider=provider)
    source = Run(path.resolve().parent if run is None else run)
    if run is None and not source.best.exists():
        raise RunError(f"there is no PyTorch original beside {path}; name the run it was exported from: --run DIR")
    return verify(reference_of(source), predictor)


def reference_of(run: Run, most_tokens: int | None = None) -> TorchReference:
    """Load the trained network of a run as a reference, with the test split of its corpus where that is available.

    Args:
        run: A trained run.
        most_tokens: The largest number of tokens to use of the test split; None for all.

    Raises:
        RunError: The run is missing or unfinished.
        CheckpointError: The checkpoint is damaged or does not fit.
    """
    return _reference(run, run.trained()[0], run.vocabulary(), most_tokens)


def _reference(
    run: Run, network: LanguageModel, vocabulary: Vocabulary, most_tokens: int | None = None
) -> TorchReference:
    text, why_no_text = None, ""
    try:
        corpus = run.corpus()
    except (DataError, StorageError) as error:
        why_no_text = str(error).partition(";")[0]  # its advice goes with other commands
    else:
        ids = corpus.ids["test"]
        part = "" if most_tokens is None or len(ids) <= most_tokens else f"first {most_tokens:,} tokens of the "
        text = Text(ids[:most_tokens], f"the {part}test split of {Path(corpus.name).name}")
    return TorchReference(network, vocabulary, text, f"PyTorch run {run.path.name}", why_no_text)

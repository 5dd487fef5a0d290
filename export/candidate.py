"""A candidate: an artifact that is built, but neither verified nor written yet."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from ..model.network import LanguageModel
from ..runtime.artifact.architecture import Architecture
from ..runtime.artifact.artifact import artifact_metadata
from ..runtime.errors import StorageError
from ..runtime.io.files import json_text, write_atomically
from ..runtime.predictor import Predictor
from ..runtime.vocabulary import Vocabulary
from .build import BuildOptions, build_model, seal
from .errors import ParityError
from .parity import ParityReport


@final
class Candidate:
    """The artifact of a network.

    Attributes:
        predictor: The artifact, loaded to be verified.
    """

    def __init__(
        self, network: LanguageModel, vocabulary: Vocabulary, build: BuildOptions, training: Mapping[str, Any]
    ) -> None:
        """Build it.

        Args:
            network: The network.
            vocabulary: Its tokens.
            build: Precision and opset.
            training: Facts of its training, for the metadata.

        Raises:
            ExportError: The network is too large for one file.
        """
        self._model = build_model(network, build)
        self._metadata = functools.partial(
            artifact_metadata,
            network.architecture,
            vocabulary,
            build.precision,
            is_static=build.precision == "int8",
            training=training,
        )
        self._common = _common_metadata(network, vocabulary)
        self.predictor = Predictor.load(seal(self._model, self._metadata() | self._common))

    def write(
        self,
        path: Path,
        report: ParityReport,
        source: str,
        failures: Sequence[str] = (),
        proofs: Mapping[str, Any] | None = None,
    ) -> Predictor:
        """Write the artifact with its report beside it; returns it, loaded.

        Args:
            path: The file.
            report: Its verification.
            source: Stands for the original in messages.
            failures: What else speaks against it.
            proofs: What else was compared, for the metadata.

        Raises:
            ParityError: A bound is broken, the artifact computes other bits in a batch although its sums are exact, or
                there are `failures`; only the report is written.
            StorageError: A file cannot be written.
        """
        failures = [*report.failures, *_invariance_failures(self.predictor, report), *failures]
        if failures:
            write_report(path.parent, report, "rejected")
            raise ParityError(
                f"the {report.variant} export of {source} does not match the original and was not written: "
                f"{'; '.join(failures)}; all that was compared: {path.parent / f'rejected.{report.variant}.json'}; "
                f"what to do: {report.advice}"
            )
        parity = report.summary() | dict(proofs or {})
        data = seal(self._model, self._metadata(batch_invariant=report.batch_invariant, parity=parity) | self._common)
        sealed = Predictor.load(data)
        write_atomically(path, data)
        write_report(path.parent, report)
        return sealed


def write_report(folder: Path, report: ParityReport, kind: str = "parity") -> None:
    """Write the report as `parity.VARIANT.json` or `rejected.VARIANT.json`.

    Raises:
        StorageError: The file cannot be written.
    """
    write_atomically(folder / f"{kind}.{report.variant}.json", f"{json_text(report.to_json(), indent=1)}\n".encode())


def check_writable(path: Path) -> None:
    """StorageError if an artifact cannot be written there; so it is found out before the work, not after it."""
    if path.is_dir():
        raise StorageError(f"cannot write {path}: it is a folder, a file name is expected")
    if not path.parent.is_dir():
        raise StorageError(f"cannot write {path}: there is no folder {path.parent}")


def model_type(architecture: Architecture) -> str:
    """The kind of model, for readers of other projects' conventions: `lstm-language-model`."""
    return f"{architecture.cell}-language-model"


def _invariance_failures(candidate: Predictor, report: ParityReport) -> list[str]:
    if report.batch_invariant or not candidate.artifact.is_static:
        return []
    return ["its results depend on the other rows of a batch or on chunks, which its integer sums exclude"]


def _common_metadata(network: LanguageModel, vocabulary: Vocabulary) -> dict[str, str]:
    """The entries by which other tools know recurrent language models."""
    return {
        "model_type": model_type(network.architecture),
        "vocab_size": str(len(vocabulary)),
        "unk_id": str(vocabulary.unknown_id),
        "eos_id": str(vocabulary.end_of_sentence_id),
    }

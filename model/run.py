"""The run folder: where a training keeps its configuration, vocabulary, checkpoints, metrics and picture.

RUN/config.json             configuration, corpus and its hash, what the training ran on
RUN/vocabulary.json         tokens and tokenization
RUN/checkpoints/latest.safetensors   to go on from
RUN/checkpoints/best.safetensors     the epoch with the lowest valid perplexity
RUN/metrics.jsonl           one JSON object per record
RUN/tensorboard/            the records as TensorBoard scalars, where they were asked for
RUN/curves.png              learning curves
RUN/embeddings.png          map of the word vectors
RUN/*.onnx                  exports
"""

import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import filelock
import torch
from torch import Tensor

from ..runtime.artifact.summary import Summary
from ..runtime.errors import JsonError, VocabularyError
from ..runtime.io.files import (
    RETRY_AFTER_SECONDS,
    json_text,
    make_folder,
    read_bytes,
    remove_leftovers,
    write_atomically,
)
from ..runtime.io.json_reader import LARGE_BYTES, MOST_BYTES, parse_json
from ..runtime.vocabulary import Vocabulary
from .checkpoint import Checkpoint, errors_of
from .data.corpus import Corpus, load_corpus_with
from .data.texts import PYDOCS
from .errors import CheckpointError, ConfigError, DataError, RunError
from .network import LanguageModel, weight_shapes
from .training.config import TrainConfig

RUNS = Path("runs")
_PUT_BACK = "put a copy of that file back, or train in another folder: --run DIR"


@final
@dataclass(frozen=True)
class Run:
    """A run folder by its path; nothing is read until it is asked for."""

    path: Path

    @property
    def latest(self) -> Path:
        """The checkpoint to go on from."""
        return self.path / "checkpoints" / "latest.safetensors"

    @property
    def best(self) -> Path:
        """The checkpoint with the lowest valid perplexity."""
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def metrics(self) -> Path:
        """The records of the training, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event file."""
        return self.path / "tensorboard"

    @property
    def curves(self) -> Path:
        """The picture of the learning curves."""
        return self.path / "curves.png"

    @property
    def _config(self) -> Path:
        return self.path / "config.json"

    @property
    def _vocabulary(self) -> Path:
        return self.path / "vocabulary.json"

    @property
    def embedding_map(self) -> Path:
        """The map of the word vectors."""
        return self.path / "embeddings.png"

    def artifact(self, variant: str) -> Path:
        """Where an export goes by default: `model.onnx`, `model.w8.onnx`, `model.int8-latency.onnx`, ..."""
        return self.path / ("model.onnx" if variant == "fp32" else f"model.{variant}.onnx")

    def create(self, config: TrainConfig, corpus: Corpus, environment: Mapping[str, Any] | None = None) -> None:
        """Make the folder and write configuration, vocabulary and what the training runs on.

        Raises:
            RunError: It holds a run already, or the vocabulary is larger than what is read.
            StorageError: It cannot be written.
        """
        if self._config.exists():
            raise RunError(
                f"{self.path} holds a run already; go on with it: --resume, or choose another folder: --run DIR"
            )
        if self.latest.exists() or self.best.exists():
            raise RunError(
                f"{self.path} holds checkpoints of a run whose config.json is missing; put that back, or choose "
                "another folder: --run DIR"
            )
        vocabulary = {"tokens": corpus.vocabulary.tokens, "tokenization": corpus.vocabulary.tokenization.to_json()}
        text = _json_lines(vocabulary)
        try:
            parse_json(text, LARGE_BYTES)
        except JsonError as error:
            raise RunError(
                f"the vocabulary of {len(corpus.vocabulary):,} tokens could not be read again: it {error}; "
                "leave rare tokens out: --set min_count=2"
            ) from error
        make_folder(self.path / "checkpoints")
        write_atomically(self._vocabulary, text)
        corpus_facts = {"name": _recorded_name(corpus.name), "sha256": corpus.sha256}
        self.write_metrics([])
        facts = {"training": config.to_json(), "corpus": corpus_facts, "environment": dict(environment or {})}
        write_atomically(self._config, _json_lines(facts))

    def lock(self) -> filelock.BaseFileLock:
        """A held lock on the folder, for a `with` block.

        Raises:
            RunError: Another process holds it, or the folder cannot be written.
        """
        lock = filelock.FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise RunError(
                f"{self.path} is in use by another process; wait for it, or choose another folder: --run DIR"
            ) from error
        except OSError as error:
            raise RunError(f"cannot write in the run folder {self.path}: {error.strerror or error}") from error
        return lock

    def remove_leftovers(self) -> None:
        """Remove what a training that was killed in the middle of a save left behind; hold the lock meanwhile."""
        written = (self._config, self._vocabulary, self.metrics, self.latest, self.best, self.curves)
        for path in written:
            remove_leftovers(path)

    def config(self) -> TrainConfig:
        """The configuration.

        Raises:
            RunError: The folder holds no run, or its configuration is damaged.
        """
        try:
            return TrainConfig.from_json(self._settings().get("training"))
        except ConfigError as error:
            raise RunError(f"{self._config} is damaged: {error}; {_PUT_BACK}") from error

    def require_same(self, config: TrainConfig, corpus: Corpus) -> None:
        """Check that the run was begun with this configuration and corpus.

        Raises:
            RunError: It was not; the message names what differs.
        """
        began, now = self.config().to_json(), config.to_json()
        differences = [f"{key} was {began[key]!r}, is {now[key]!r}" for key in now if began[key] != now[key]]
        if self.corpus_facts()["sha256"] != corpus.sha256:
            differences.append("the corpus has changed")
        if differences:
            raise RunError(
                f"cannot go on with {self.path}: {'; '.join(differences)}; "
                "resume with the same settings, begin a new run (--run DIR), or remove that folder"
            )

    def corpus_facts(self) -> dict[str, str]:
        """Name and hash of the corpus: `name`, `sha256`.

        Raises:
            RunError: As for `config`.
        """
        facts = self._settings().get("corpus")
        if not isinstance(facts, dict) or not all(isinstance(facts.get(key), str) for key in ("name", "sha256")):
            raise RunError(f"{self._config} is damaged: it lacks the corpus' name and sha256; {_PUT_BACK}")
        return facts

    def corpus(self) -> Corpus:
        """The corpus of the training, read again and encoded with the run's vocabulary.

        Raises:
            DataError: It is not where it was, or has changed.
        """
        facts = self.corpus_facts()
        corpus = load_corpus_with(facts["name"], self.vocabulary())
        if corpus.sha256 != facts["sha256"]:
            raise DataError(
                f"the corpus {facts['name']} has changed since {self.path} was trained: its hash is "
                f"{corpus.sha256[:12]}..., the run has {facts['sha256'][:12]}..."
            )
        return corpus

    def vocabulary(self) -> Vocabulary:
        """The vocabulary.

        Raises:
            RunError: The folder holds no run, or its vocabulary is damaged.
        """
        value = self._read_json(self._vocabulary, LARGE_BYTES)
        try:
            return Vocabulary.from_json(value.get("tokens"), value.get("tokenization"))
        except VocabularyError as error:
            raise RunError(f"{self._vocabulary} is damaged: {error}; {_PUT_BACK}") from error

    def read_latest(self) -> Checkpoint | None:
        """The checkpoint to go on from; None where there is none yet.

        Raises:
            RunError: It is missing, though epochs were finished.
            CheckpointError: It is damaged.
            StorageError: It cannot be read.
        """
        if self.latest.exists():
            return _read(self.latest)
        # One that was killed as it saved its first epoch has the best weights only, and begins again.
        if self.best.exists() and _read(self.best).facts.get("epoch", 0) > 1:
            raise RunError(
                f"{self.latest} is missing, though epochs were finished, so there is nothing to go on from; put it "
                "back, or begin a new run: --run DIR"
            )
        return None

    def trained(self) -> tuple[LanguageModel, Checkpoint]:
        """The network with the best weights, in evaluation mode on the CPU, and the checkpoint they are from.

        Raises:
            RunError: The folder holds no run, or no epoch was finished.
            CheckpointError: The checkpoint is damaged, or does not fit configuration and vocabulary.
        """
        config, vocabulary = self.config(), self.vocabulary()
        if not self.best.exists():
            raise RunError(
                f"{self.path} holds no finished epoch: {self.best.name} is missing; train it: "
                f"lmtool train --run {self.path} --resume (if it was trained, put that file back)"
            )
        checkpoint = _read(self.best)
        if checkpoint.facts.get("vocabulary_sha256") != vocabulary.sha256:
            raise RunError(f"{self._vocabulary} is not the vocabulary that {self.best} was trained with; {_PUT_BACK}")
        with errors_of(self.best):
            _require_facts(checkpoint)
            # Before the network is made: what the configuration says could be of any size.
            weights = checkpoint.checked("model", weight_shapes(config.architecture, len(vocabulary)))
        network = LanguageModel(config.architecture, len(vocabulary))
        load_weights(network, weights)
        return network.eval(), checkpoint

    def summary(self) -> Summary:
        """The run in facts: sizes, vocabulary, training.

        Raises:
            RunError: As for `trained`.
            CheckpointError: As for `trained`.
        """
        network, checkpoint = self.trained()
        return Summary(
            source=str(self.path),
            architecture=network.architecture,
            vocabulary=self.vocabulary(),
            training=self.training_facts(checkpoint),
        )

    def training_facts(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """What an artifact records of the training that led to `checkpoint`.

        Raises:
            RunError: As for `config`.
        """
        config, corpus = self.config(), self.corpus_facts()
        return {
            "preset": config.preset,
            "corpus": Path(corpus["name"]).name,
            "corpus_sha256": corpus["sha256"],
            "seed": config.seed,
            **{key: checkpoint.facts[key] for key in ("epoch", "valid_perplexity", "test_perplexity")},
        }

    def write_metrics(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace the records of the training.

        Raises:
            StorageError: They cannot be written.
        """
        data = "".join(f"{json_text(record)}\n" for record in records).encode()
        write_atomically(self.metrics, data, RETRY_AFTER_SECONDS)

    def _settings(self) -> dict[str, Any]:
        return self._read_json(self._config)

    def _read_json(self, path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
        if not path.exists():
            if any(other.exists() for other in (self._config, self.best, self.latest)):
                raise RunError(f"{path} is missing; {_PUT_BACK}")
            raise RunError(
                f"{self.path} holds no run ({path.name} is missing); train one: lmtool train --run {self.path}"
            )
        try:
            value = parse_json(read_bytes(path), most_bytes)
        except JsonError as error:
            raise RunError(f"{path} is damaged: it {error}; {_PUT_BACK}") from error
        if not isinstance(value, dict):
            raise RunError(f"{path} is damaged: it holds {type(value).__name__}, expected an object; {_PUT_BACK}")
        return value


def chosen_run(path: Path | None) -> Run:
    """The run in that folder; None for the latest in `runs`.

    Raises:
        RunError: There is none in `runs`.
    """
    return latest_run() if path is None else Run(path)


def latest_run(runs: Path = RUNS) -> Run:
    """The run in the folder `runs` whose configuration is youngest.

    Raises:
        RunError: There is none.
    """
    found = sorted(runs.glob("*/config.json"), key=lambda path: (path.stat().st_mtime_ns, path))
    if not found:
        raise RunError(f"there is no run in {runs.resolve()}; train one: lmtool train, or name one: --run DIR")
    return Run(found[-1].parent)


@torch.no_grad()
def load_weights(network: LanguageModel, weights: Mapping[str, Tensor]) -> None:
    """Set the network's parameters from tensors of their names, shapes and type, as `Checkpoint.checked` gives them."""
    for name, weight in network.weights().items():
        weight.copy_(weights[name])


def _read(path: Path) -> Checkpoint:
    with errors_of(path):
        return Checkpoint.read(path)


def _require_facts(checkpoint: Checkpoint) -> None:
    facts = checkpoint.facts
    epoch = facts.get("epoch")
    if type(epoch) is not int or not 0 <= epoch < 2**63:
        raise CheckpointError(f"the checkpoint has the epoch {reprlib.repr(epoch)}, expected 0 or more, below 2^63")
    for key in ("valid_perplexity", "test_perplexity"):
        if key not in facts or not (facts[key] is None or _is_perplexity(facts[key])):
            raise CheckpointError(
                f"the checkpoint has the {key} {reprlib.repr(facts.get(key))}, expected a finite number of 1 or more"
            )


def _is_perplexity(value: Any) -> bool:
    return type(value) is float and 1 <= value < math.inf


def _recorded_name(name: str) -> str:
    """A folder by its whole path, so that the run can be resumed from anywhere."""
    return name if name == PYDOCS else str(Path(name).resolve())


def _json_lines(value: Any) -> bytes:
    return f"{json_text(value, indent=1)}\n".encode()

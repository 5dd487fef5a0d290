"""A training's run: what the files of its folder hold, and how they are written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from ..runtime.artifact.run_folders import START_KEY, next_start
from ..runtime.artifact.summary import Summary
from ..runtime.errors import JsonError, VocabularyError, truncated
from ..runtime.io.files import (
    RETRY_AFTER_SECONDS,
    json_text,
    make_folder,
    read_bytes,
    write_atomically,
)
from ..runtime.io.json_reader import LARGE_BYTES, MOST_BYTES, parse_json
from ..runtime.vocabulary import Vocabulary
from .checkpoint import Checkpoint, checkpoint_errors
from .data.corpus import AUTO, Corpus, load_corpus_with
from .data.texts import PYDOCS, is_there
from .errors import ConfigError, DataError, RunError
from .network import LanguageModel
from .run_folder import RunFolder
from .training.config import TrainConfig, setting_text

ORIGIN_KEYS = ("run", "weights_sha256")
SOURCE_KEYS = ("file", "sha256", "layout")
_PLACE_OF_ORIGIN = ("run", "epoch")
_NEWER_FACTS = ("unigram_perplexity", "test_bits_per_byte", "test_word_perplexity")
"""Facts that checkpoints of earlier versions lack."""

_PUT_BACK = "put a copy of that file back, or train in another folder: --run DIR"


@final
@dataclass(frozen=True)
class Run(RunFolder):
    """A run; its files are read when a method needs them."""

    @classmethod
    def of_artifact(cls, artifact: Path) -> "Run":
        """The run in whose folder an artifact lies.

        Raises:
            DataError: That folder holds no run.
        """
        run = cls(artifact.resolve().parent)
        if not run.best.exists():
            raise DataError(
                f"{artifact} lies in no run folder, so its corpus is not known; name one: --data pydocs, a file or a "
                "folder"
            )
        return run

    def create(
        self,
        config: TrainConfig,
        corpus: Corpus,
        environment: Mapping[str, Any] | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        """Make the folder and write the start of the run, configuration, vocabulary, corpus facts and environment.

        Raises:
            RunError: It holds a run already, or the vocabulary is larger than `vocabulary` reads.
            StorageError: It cannot be written.
        """
        facts = {
            "corpus": {"name": _recorded_name(corpus.name), "sha256": corpus.sha256, "notes": list(corpus.notes)},
            **({} if origin is None else {"origin": dict(origin)}),
        }
        self._begin(config, corpus.vocabulary, facts, environment)

    def create_imported(
        self, network: LanguageModel, vocabulary: Vocabulary, config: TrainConfig, source: Mapping[str, str]
    ) -> None:
        """Make the folder with a network from elsewhere, whose training and corpus are not known.

        Args:
            network: Its weights become the best ones of the run.
            vocabulary: Its tokens.
            config: Its architecture, and settings for a training that starts from it.
            source: What `imported` returns.

        Raises:
            RunError, StorageError: As for `create`.
        """
        self._begin(config, vocabulary, {"imported": dict(source)})
        facts = {"epoch": 0, "valid_perplexity": None, "test_perplexity": None}
        Checkpoint.of_weights(network.weights(), vocabulary, facts).write(self.best)

    def _begin(
        self,
        config: TrainConfig,
        vocabulary: Vocabulary,
        facts: Mapping[str, Any],
        environment: Mapping[str, Any] | None = None,
    ) -> None:
        if self._config.exists():
            raise RunError(
                f"{self.path} holds a run already; go on with it: --resume, or choose another folder: --run DIR"
            )
        if self.latest.exists() or self.best.exists():
            raise RunError(
                f"{self.path} holds checkpoints of a run whose config.json is missing; put that back, or choose "
                "another folder: --run DIR"
            )
        text = _json_lines({"tokens": vocabulary.tokens, "tokenization": vocabulary.tokenization.to_json()})
        try:
            parse_json(text, LARGE_BYTES)
        except JsonError as error:
            raise RunError(
                f"the vocabulary of {len(vocabulary):,} tokens could not be read again: it {error}; "
                "leave rare tokens out: --set min_count=2"
            ) from error
        make_folder(self.path / "checkpoints")
        write_atomically(self._vocabulary, text)
        self.write_metrics([])
        started = {START_KEY: next_start(self.path.resolve().parent), "training": config.to_json()}
        write_atomically(self._config, _json_lines({**started, **facts, "environment": dict(environment or {})}))

    def config(self) -> TrainConfig:
        """The configuration.

        Raises:
            RunError: The folder holds no run, or its configuration is damaged.
        """
        try:
            config = TrainConfig.from_json(self._read_json(self._config).get("training"))
        except ConfigError as error:
            raise RunError(f"{self._config} is damaged: {error}; {_PUT_BACK}") from error
        if config.tokenization == AUTO:  # older runs recorded no choice
            config = replace(config, tokenization=self.vocabulary().tokenization.rule)
        return config

    def require_same(self, config: TrainConfig, corpus: Corpus) -> None:
        """Check that the run has this configuration and corpus.

        Raises:
            RunError: It has others; the message names the differences.
        """
        began, now = self.config().to_json(), config.to_json()
        changed = [key for key in now if began[key] != now[key]]
        if began["epochs"] is not None and began["epochs"] < now["epochs"]:
            changed.remove("epochs")  # a run may go on
        if changed == ["epochs"] and began["epochs"] is not None:
            raise RunError(
                f"cannot go on with {self.path}: it is a run of {began['epochs']:,} epochs, {now['epochs']:,} are fewer"
                f"; give {began['epochs']:,} or more, or leave --epochs out"
            )
        differences = [f"{key} was {setting_text(began[key])}, is {setting_text(now[key])}" for key in changed]
        if self.corpus_facts()["sha256"] != corpus.sha256:
            differences.append("the corpus has changed")
        if differences:
            raise RunError(
                f"cannot go on with {self.path}: {'; '.join(differences)}; "
                "resume with the same settings, begin a new run (--run DIR), or remove that folder"
            )

    def extend(self, epochs: int, finished: int) -> None:
        """Record that the run goes on to more epochs, of which `finished` are done.

        Raises:
            StorageError: It cannot be written.
        """
        facts = self._read_json(self._config)
        if facts["training"]["epochs"] != epochs:
            step = {"finished": finished, "from": facts["training"]["epochs"], "to": epochs}
            earlier = facts.get("extended")
            facts["extended"] = [*(earlier if isinstance(earlier, list) else []), step]
            facts["training"]["epochs"] = epochs
            write_atomically(self._config, _json_lines(facts))

    def origin(self) -> dict[str, Any] | None:
        """The run whose weights this one started from, as `fine_tuning.origin_of` records it; None if there is none.

        Raises:
            RunError: As for `config`.
        """
        return self._texts("origin", ORIGIN_KEYS)

    def imported(self) -> dict[str, str] | None:
        """The file that the weights were imported from: `file`, `sha256`, `layout`; None for a trained run.

        Raises:
            RunError: As for `config`.
        """
        return self._texts("imported", SOURCE_KEYS)

    def _texts(self, name: str, keys: Sequence[str]) -> dict[str, Any] | None:
        """An object of the configuration that holds texts under these keys; None if it is not there."""
        facts = self._read_json(self._config).get(name)
        if facts is not None and not (isinstance(facts, dict) and all(isinstance(facts.get(key), str) for key in keys)):
            raise RunError(f"{self._config} is damaged: its {name} lacks one of {', '.join(keys)}; {_PUT_BACK}")
        return facts

    def corpus_facts(self) -> dict[str, Any]:
        """Name and hash of the corpus, and what to know about it: `name`, `sha256`, `notes`.

        Raises:
            RunError: As for `config`.
            DataError: The network was imported.
        """
        if self.imported() is not None:
            raise DataError(
                "the network was imported, so its corpus is not known; name a text: --data (to train the network on it:"
                f" lmtool train --init {self.path} --data TEXT)"
            )
        facts = self._texts("corpus", ("name", "sha256"))
        if facts is None:
            raise RunError(f"{self._config} is damaged: it lacks the corpus' name and sha256; {_PUT_BACK}")
        return facts

    def corpus_name(self) -> str:
        """The name of the corpus, which is there.

        Raises:
            DataError: It is missing.
        """
        name: str = self.corpus_facts()["name"]
        if not is_there(name):
            raise DataError(
                f"the corpus is not where it was when {self.path} was trained: there is no {truncated(name, 120)}; "
                "put it back, or name its new place: --data"
            )
        return name

    def corpus(self, split: str | None = None) -> Corpus:
        """The corpus of the training, read again and encoded with the run's vocabulary.

        Args:
            split: As for `load_corpus_with`.

        Raises:
            DataError: It is missing or has changed.
        """
        facts = self.corpus_facts()
        corpus = load_corpus_with(self.corpus_name(), self.vocabulary(), split=split)
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
        """The checkpoint to resume from; None if there is none yet.

        Raises:
            RunError: It is missing, although epochs are finished.
            CheckpointError: It is damaged.
            StorageError: It cannot be read.
        """
        if self.latest.exists():
            return _read(self.latest)
        # A training that was killed while it saved its first epoch has the best weights only, and begins again.
        if self.best.exists() and _read(self.best).facts.get("epoch", 0) > 1:
            raise RunError(
                f"{self.latest} is missing, though epochs were finished, so there is nothing to go on from; put it "
                "back, or begin a new run: --run DIR"
            )
        return None

    def trained(self) -> tuple[LanguageModel, Checkpoint]:
        """The network with the best weights, in evaluation mode on the CPU, and their checkpoint.

        Raises:
            RunError: The folder holds no run, or no epoch is finished.
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
        with checkpoint_errors(self.best):
            checkpoint.require_epoch_facts()
            weights = checkpoint.weights(config.architecture, len(vocabulary))
        network = LanguageModel(config.architecture, len(vocabulary))
        network.load_weights(weights)
        return network.eval(), checkpoint

    def summary(self) -> Summary:
        """Sizes, vocabulary and training of the run.

        Raises:
            RunError, CheckpointError: As for `trained`.
        """
        network, checkpoint = self.trained()
        return Summary(
            source=str(self.path),
            architecture=network.architecture,
            vocabulary=self.vocabulary(),
            training=self.training_facts(checkpoint),
        )

    def training_facts(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """The facts of the training that an artifact of `checkpoint` records.

        Raises:
            RunError: As for `config`.
        """
        config, origin, source = self.config(), self.origin(), self.imported()
        if source is not None:
            return {"preset": config.preset, **{f"imported_{key}": source[key] for key in SOURCE_KEYS}}
        corpus = self.corpus_facts()
        tuned = {f"origin_{key}": value for key, value in (origin or {}).items() if key not in _PLACE_OF_ORIGIN}
        return {
            **tuned,
            "preset": config.preset,
            "corpus": Path(corpus["name"]).name,
            "corpus_sha256": corpus["sha256"],
            "seed": config.seed,
            **{key: checkpoint.facts[key] for key in ("epoch", "valid_perplexity", "test_perplexity")},
            **{key: checkpoint.facts[key] for key in _NEWER_FACTS if key in checkpoint.facts},
        }

    def write_metrics(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace the records.

        Raises:
            StorageError: They cannot be written.
        """
        data = "".join(f"{json_text(record)}\n" for record in records).encode()
        write_atomically(self.metrics, data, RETRY_AFTER_SECONDS)

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


def _read(path: Path) -> Checkpoint:
    with checkpoint_errors(path):
        return Checkpoint.read(path)


def _recorded_name(name: str) -> str:
    """The name of a corpus, a folder by its absolute path, so that the run can be resumed from any directory."""
    return name if name == PYDOCS else str(Path(name).resolve())


def _json_lines(value: Any) -> bytes:
    return f"{json_text(value, indent=1)}\n".encode()

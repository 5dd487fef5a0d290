"""Import: weights that another program trained become a run folder."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from ...runtime.artifact.architecture import Architecture
from ...runtime.errors import OptionError
from ...runtime.io.files import CHUNK_BYTES, make_folder, opened
from ...runtime.vocabulary import Vocabulary
from ..data.corpus import AUTO
from ..data.rule import NEWEST
from ..errors import WeightsError
from ..network import LanguageModel
from ..run import Run
from ..training.config import TrainConfig
from ..training.fine_tuning import require_kept
from ..training.presets import preset_named
from .keras_file import is_keras, read_keras
from .layouts import KERAS, LAYOUT_NAMES, read_parts
from .parts import Parts
from .tokens import numbered, read_tokens, require_size, vocabulary_of
from .weights_file import WeightsFile

PRESET = "imported"
_TOKENIZER = "tokenizer.json"


@final
@dataclass(frozen=True)
class ImportOptions:
    """What to import.

    Attributes:
        weights: A file of safetensors, a state_dict that `torch.save` wrote, or a model of Keras.
        run: The run folder to make.
        vocabulary: A file of tokens (see `read_tokens`) or a `tokenizer.json`; None for a `tokenizer.json` beside the
            weights, or else for numbers instead of tokens.
        layout: One of `LAYOUT_NAMES`; None to recognise it.
        modules: Part of the network (one of `ROLES`) -> the name of its module, where no layout knows it.
        unknown: The token that stands for unknown ones; None to recognise it.
        end_of_sentence: The token of a newline; None to recognise it.
        settings: `tokenization`, the cell `rnn`, and settings for a training that starts from the network, as text.
    """

    weights: Path
    run: Path
    vocabulary: Path | None = None
    layout: str | None = None
    modules: Mapping[str, str] = field(default_factory=dict)
    unknown: str | None = None
    end_of_sentence: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Imported:
    """An imported network.

    Attributes:
        run: Its run folder.
        layout: The layout of the file.
        architecture: Cell and sizes.
        vocabulary: Its tokens.
        notes: What to know about it, a line each.
    """

    run: Path
    layout: str
    architecture: Architecture
    vocabulary: Vocabulary
    notes: tuple[str, ...]

    def format(self) -> str:
        """The result in two lines."""
        rule = self.vocabulary.tokenization
        return (
            f"{self.run}: {self.architecture} (layout {self.layout})\n"
            f"  {len(self.vocabulary):,} tokens, rule {rule.rule}, unknown {rule.unknown!r}, end of sentence "
            f"{rule.end_of_sentence!r}"
        )

    def to_json(self) -> dict[str, Any]:
        """All fields, ready for JSON; of the vocabulary its size and tokenization."""
        tokenization = self.vocabulary.tokenization.to_json()
        tokenization.pop("merges", None)
        return {
            "run": str(self.run),
            "layout": self.layout,
            "model": self.architecture.to_json(),
            "vocabulary": {"size": len(self.vocabulary), "tokenization": tokenization},
            "notes": list(self.notes),
        }


def import_weights(options: ImportOptions) -> Imported:
    """Make a run folder of weights from elsewhere.

    Raises:
        OptionError, ConfigError: An option is not known, or what the file cannot tell is not given.
        StorageError: A file cannot be read or written.
        WeightsError: The weights are damaged, or of a network that artifacts cannot hold.
        VocabularyError: The vocabulary is damaged, or has another number of tokens than the network.
        RunError: The folder holds a run already.
        ModuleNotFoundError: The file is of Keras, and h5py is not installed.
    """
    parts, layout, notes = _parts(options)
    network = parts.network()
    _require_known_cell(network.architecture.cell, layout, options.settings)
    vocabulary, more = _vocabulary(options, network.vocabulary_size)
    config = _config(network, vocabulary, options.settings)
    run = Run(options.run)
    make_folder(run.path)
    source = {"file": options.weights.name, "sha256": _sha256(options.weights), "layout": layout}
    with run.lock():
        run.create_imported(network, vocabulary, config, source)
    return Imported(run.path, layout, network.architecture, vocabulary, (*notes, *more))


def _parts(options: ImportOptions) -> tuple[Parts, str, list[str]]:
    if options.layout not in (None, *LAYOUT_NAMES):
        raise OptionError(f"there is no layout {options.layout!r}, expected one of {', '.join(LAYOUT_NAMES)}")
    if is_keras(options.weights):
        if options.layout not in (None, KERAS) or options.modules:
            raise OptionError(f"{options.weights} is a model of Keras, whose layout is {KERAS}; leave the options out")
        parts, notes = read_keras(options.weights)
        return parts, KERAS, notes
    if options.layout == KERAS:
        raise OptionError(f"{options.weights} is no model of Keras (.keras, or .h5 with model_config)")
    return *read_parts(WeightsFile.open(options.weights), options.layout, options.modules), []


def _require_known_cell(cell: str, layout: str, settings: Mapping[str, str]) -> None:
    """A state_dict is the same for tanh and relu, so the user says which; a model of Keras records it."""
    if cell == "rnn" and layout != KERAS and settings.get("cell") != "rnn":
        raise WeightsError(
            "its layers have one gate: an RNN of tanh or of relu, which weights do not tell; if it is tanh, say so: "
            "--set cell=rnn (artifacts have no relu)"
        )


def _vocabulary(options: ImportOptions, size: int) -> tuple[Vocabulary, list[str]]:
    path, notes = options.vocabulary, []
    beside = options.weights.parent / _TOKENIZER
    if path is None and beside.is_file():
        path, notes = beside, [f"tokens: those of {beside}, which lies beside the weights (others: --vocabulary)"]
    rule = options.settings.get("tokenization", AUTO)
    chosen = None if rule == AUTO else NEWEST.get(rule, rule)
    if path is None:
        note = "tokens are numbers, 0 also for unknown words and the end of a line: text needs --vocabulary FILE"
        return numbered(size), [note]
    vocabulary = _read_vocabulary(path, chosen, options)
    require_size(vocabulary, size, str(path))
    if chosen is None and vocabulary.tokenization.unit != "subword":
        notes.append(
            f"tokenization {vocabulary.tokenization.rule}: text must be split as in the training (another rule: "
            "--set tokenization=RULE)"
        )
    return vocabulary, notes


def _read_vocabulary(path: Path, rule: str | None, options: ImportOptions) -> Vocabulary:
    if path.name == _TOKENIZER or rule == "bpe":
        from .tokenizer_json import read_tokenizer  # few imports need tokenizers

        if rule not in (None, "bpe") or options.unknown or options.end_of_sentence:
            raise OptionError(f"{path} is of rule bpe, which brings its special tokens; leave the options out")
        return read_tokenizer(path)
    return vocabulary_of(read_tokens(path), rule, options.unknown, options.end_of_sentence)


def _config(network: LanguageModel, vocabulary: Vocabulary, settings: Mapping[str, str]) -> TrainConfig:
    """The network's sizes, and the settings of the default preset for a training that starts from it."""
    architecture = network.architecture
    own = dataclasses.replace(
        preset_named("quick"),
        preset=PRESET,
        cell=architecture.cell,
        embedding_size=architecture.embedding_size,
        layer_sizes=architecture.layer_sizes,
        tied=architecture.tied,
        tokenization=vocabulary.tokenization.rule,
        min_count=1,
    )
    config = own.with_settings({key: value for key, value in settings.items() if key != "tokenization"})
    require_kept(config, own, "the file", "leave it out")
    return config


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with opened(path) as file:
        while block := file.read(CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()

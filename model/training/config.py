"""The training configuration, a flat dataclass that is validated when it is made, and its `key=value` settings."""

import dataclasses
import difflib
import json
import math
import reprlib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, final

from ...runtime.artifact.architecture import CELLS, Architecture
from ...runtime.errors import truncated
from ...runtime.text.byte_alphabet import BYTE_TOKENS
from ...runtime.tokenization import RULES
from ..data.corpus import AUTO
from ..dropout import Dropouts
from ..errors import ConfigError
from .adaptation import adapted_settings

CHOICES = {
    "cell": tuple(CELLS),
    "layer_init": ("uniform", "scaled"),
    "bias_init": ("zero", "unigram"),
    "tokenization": (AUTO, *RULES),
    "optimizer": ("sgd", "adam", "adamw", "muon"),
    "loss_over_time": ("sum", "mean"),
    "schedule": ("step", "cosine", "plateau"),
    "averaging": ("none", "uniform", "triggered", "exponential"),
    "precision": ("auto", "fp32", "tf32", "bf16"),
}
"""Setting -> the texts that it takes."""

_PROBABILITIES = ("dropout", "embedding_dropout", "weight_dropout", "input_dropout", "output_dropout")
_COUNTS = ("min_count", "steps", "patience")
_COUNTS_OR_ZERO = ("decay_after", "early_stopping", "sampled_softmax")
_POSITIVE = ("init_range", "adamw_factor", "clip_norm")
_NON_NEGATIVE = ("weight_decay", "activation_penalty", "temporal_penalty", "warmup_epochs")
_FRACTIONS = ("averaging_decay", "beta1", "full_softmax_share")

_WIDEST, _MOST_LAYERS = 2**16, 1000
_MOST_EPOCHS = 10_000
"""Checkpoints keep the records of all epochs, and their size is limited."""

_FEWEST_SUBWORDS, _MOST_SUBWORDS = len(BYTE_TOKENS) + 1, 2**20
"""The bytes and the unknown token; the largest vocabulary."""

_LATER = frozenset(
    {"vocabulary_size", "partial_shuffle", "sampled_softmax", "full_softmax_share", "bias_init", "adamw_factor"}
)
"""Settings that older runs and checkpoints do not record; they had the default."""

_MOST = 2**31 - 1
_SMALLEST, _LARGEST = 2.0**-126, 2.0**60
"""Range of numbers that float32 represents, with their products, in full precision."""

_POSITIVE_RANGE = f"a positive number of {_SMALLEST:.1e} to {_LARGEST:.1e}"


def _is_width(value: int) -> bool:
    return 1 <= value <= _WIDEST


def _are_layers(value: tuple[int, ...]) -> bool:
    return 1 <= len(value) <= _MOST_LAYERS and all(map(_is_width, value))


def _is_count(value: int) -> bool:
    return 1 <= value <= _MOST


def _are_epochs(value: int) -> bool:
    return 1 <= value <= _MOST_EPOCHS


def _is_positive(value: float) -> bool:
    return _SMALLEST <= value <= _LARGEST


def _is_non_negative(value: float) -> bool:
    return value == 0 or _is_positive(value)


def _is_vocabulary_size(value: int) -> bool:
    return _FEWEST_SUBWORDS <= value <= _MOST_SUBWORDS


def _is_fraction(value: float | None) -> bool:
    return value is None or value == 0 or _SMALLEST <= value < 1


def _none_or(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_valid(value)


@final
@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a training, except corpus and device.

    Attributes:
        preset: The preset that it starts from.
        cell: Recurrent cell of every layer: `lstm`, `gru` or `rnn` (tanh).
        embedding_size: Width of a token's vector.
        layer_sizes: Hidden size of each layer, first to last.
        tied: Share one matrix between embedding and output projection; the last layer is then as wide as the embedding.
        dropout: Dropout probability (1 - keep_prob) between two layers, and where the next two are None. `none`: 0.6
            for a training text of fewer than 10,000 tokens, 0.5 below 100,000, 0.4 below 200,000, else 0.2.
        input_dropout: Dropout probability of the embedding's output; None for `dropout`.
        output_dropout: Dropout probability of the last layer's output; None for `dropout`.
        locked: Drop the same numbers at every time step of a row (variational dropout, arXiv 1512.05287).
        embedding_dropout: Probability of dropping a word's whole vector for the step (arXiv 1512.05287).
        weight_dropout: Probability of dropping a recurrent weight (DropConnect, arXiv 1708.02182).
        activation_penalty: AR: factor of the mean square of the last layer's output after dropout (arXiv 1708.01009).
        temporal_penalty: TAR: factor of the mean squared difference of the last layer's output, before dropout, between
            successive time steps (arXiv 1708.01009).
        init_range: Initial weights are uniform in (-init_range, init_range), biases 0 but for `bias_init`.
        layer_init: Initial recurrent layers: `uniform`, as all weights; `scaled`: within 1/sqrt(hidden size).
        bias_init: Initial biases of the projection: 0 (`zero`), or the logarithms of the tokens' frequencies in the
            training text, one added to each count: the training then begins with their distribution (`unigram`).
        tokenization: Rule that splits text into tokens (`lmtool.runtime.RULES`); `auto` for the corpus' default.
            `words` is the newest form of that rule, `words-2`.
        vocabulary_size: Tokens of the rule `bpe`, 257 or more: 256 bytes, one that stands for nothing, and the parts of
            words that the training text gives; `none`: 4,000.
        min_count: Tokens that are rarer in the training text become the unknown token; not for `bpe`.
        batch_size: Streams trained in parallel, over all processes. `none`: 32, but 16 for a training text of fewer
            than 200,000 tokens.
        steps: Tokens of each stream per update (truncated back-propagation through time).
        variable_steps: Draw the number of tokens for each update, around `steps`, or around half of it once in twenty;
            the learning rate, or the summed loss with `sgd`, is proportional to it (arXiv 1708.02182).
        partial_shuffle: Begin each stream of an epoch at a random place, and go on from its end to its start
            (arXiv 1903.04167).
        epochs: Passes over the training text; `none`: as many as read 100,000 tokens, but 8 to 20.
        optimizer: `sgd`, `adam`, `adamw` (decoupled weight decay), or `muon`: Muon for the matrices of the recurrent
            layers (arXiv 2502.16982), AdamW for everything else.
        beta1: Decay of Adam's first moment; 0 for none. Muon's momentum is 0.95.
        weight_decay: Factor of the L2 penalty; decoupled for `adamw` and `muon`.
        learning_rate: Initial learning rate. `none`: 0.014, but 0.01 for a training text of fewer than 200,000 tokens.
        adamw_factor: For `muon`: AdamW's learning rate is `learning_rate` times this.
        sampled_softmax: Tokens that the softmax of a step sums over beside the target, drawn at random, frequent ones
            more often, and weighted so that the sum is right on average (importance sampling, arXiv 1412.2007). 0, or
            as many as the vocabulary has: all. The training perplexity is then an estimate, too low on average.
        full_softmax_share: Share of the epochs, the last ones and rounded down to whole epochs, whose softmax sums over
            all tokens all the same; it matters only with `sampled_softmax`.
        loss_over_time: `sum` or `mean` of the loss over the time steps, before clipping; it is averaged over the batch.
        schedule: Learning rate. `step`: times decay^max(epoch - decay_after, 0), epoch from 0. `cosine`: half a cosine,
            down to 0. `plateau`: times `decay` after every `patience` epochs without a better valid perplexity.
        decay: See `schedule`.
        decay_after: See `schedule`.
        patience: See `schedule` and `averaging`.
        warmup_epochs: Number of epochs, also fractional, in which the learning rate rises linearly.
        early_stopping: Stop after this number of epochs without a better valid perplexity; 0 for never.
        averaging: Weights that are evaluated and saved: the last (`none`); their mean since the first step (`uniform`:
            averaged SGD, ASGD); their mean since the valid perplexity was no better than the best one up to `patience`
            epochs before (`triggered`: NT-ASGD, arXiv 1708.02182); or a moving mean (`exponential`).
        averaging_decay: Decay of the moving mean; at step n at most n / (10 + n).
        clip_norm: Largest global norm of the gradient.
        precision: Operands of matrix products: `fp32`, `tf32` (CUDA only), or `bf16` with sums and weights in fp32,
            which is slow on devices without bf16 units; recurrent layers on CUDA then stay in fp32. `auto`: bf16 on
            devices with these units (of processors: AMX or AVX-512 BF16), else fp32. A run records its choice.
        seed: Seed of initial weights, dropout, `variable_steps`, `partial_shuffle` and `sampled_softmax`.
    """

    preset: str
    cell: str = "lstm"
    embedding_size: int = 200
    layer_sizes: tuple[int, ...] = (200, 200)
    tied: bool = False
    dropout: float | None = 0.0
    input_dropout: float | None = None
    output_dropout: float | None = None
    locked: bool = False
    embedding_dropout: float = 0.0
    weight_dropout: float = 0.0
    activation_penalty: float = 0.0
    temporal_penalty: float = 0.0
    init_range: float = 0.1
    layer_init: str = "uniform"
    bias_init: str = "zero"
    tokenization: str = AUTO
    vocabulary_size: int | None = None
    min_count: int = 1
    batch_size: int | None = 30
    steps: int = 20
    variable_steps: bool = False
    partial_shuffle: bool = False
    epochs: int | None = 13
    optimizer: str = "sgd"
    beta1: float = 0.9
    weight_decay: float = 0.0
    learning_rate: float | None = 1.0
    adamw_factor: float = 1.0
    sampled_softmax: int = 0
    full_softmax_share: float = 0.25
    loss_over_time: str = "sum"
    schedule: str = "step"
    decay: float = 0.5
    decay_after: int = 4
    patience: int = 1
    warmup_epochs: float = 0.0
    early_stopping: int = 0
    averaging: str = "none"
    averaging_decay: float = 0.999
    clip_norm: float = 5.0
    precision: str = "auto"
    seed: int = 1

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A field is outside its range.
        """
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                value = reprlib.repr(getattr(self, name))
                raise ConfigError(f"{name} is {value}, expected one of {', '.join(choices)}")
        for name in _COUNTS:
            self._require(name, _is_count, f"1 or more, {_MOST:,} at most")
        self._require("batch_size", _none_or(_is_count), f"1 or more, {_MOST:,} at most")
        for name in _COUNTS_OR_ZERO:
            self._require(name, lambda value: 0 <= value <= _MOST, f"0 or more, {_MOST:,} at most")
        self._require("epochs", _none_or(_are_epochs), f"1 or more, {_MOST_EPOCHS:,} at most")
        for name in (*_PROBABILITIES, *_FRACTIONS):
            self._require(name, _is_fraction, f"0 or more and below 1 ({_SMALLEST:.1e} or more where it is not 0)")
        for name in _POSITIVE:
            self._require(name, _is_positive, _POSITIVE_RANGE)
        self._require("learning_rate", _none_or(_is_positive), _POSITIVE_RANGE)
        for name in _NON_NEGATIVE:
            self._require(name, _is_non_negative, f"0 or more: 0, or {_SMALLEST:.1e} to {_LARGEST:.1e}")
        subwords = f"{_FEWEST_SUBWORDS} to {_MOST_SUBWORDS:,} (256 are the bytes)"
        self._require("vocabulary_size", _none_or(_is_vocabulary_size), subwords)
        self._require("decay", lambda value: _SMALLEST <= value <= 1, f"{_SMALLEST:.1e} to 1")
        self._require("embedding_size", _is_width, f"1 to {_WIDEST:,}")
        self._require("layer_sizes", _are_layers, f"sizes of 1 to {_WIDEST:,}, {_MOST_LAYERS:,} at most")
        self._require("seed", lambda value: 0 <= value < 2**63, "0 or more, below 2^63")
        if self.tied and self.layer_sizes[-1] != self.embedding_size:
            raise ConfigError(
                f"tied weights need a last layer as wide as the embedding: layer_sizes ends with "
                f"{self.layer_sizes[-1]}, embedding_size is {self.embedding_size}; set both alike, for example "
                f"--set embedding_size={self.layer_sizes[-1]}, or --set tied=false"
            )

    def _require(self, name: str, is_valid: Callable[[Any], bool], expected: str) -> None:
        value = getattr(self, name)
        if not is_valid(value):
            sizes = truncated(setting_text(value), 100) or "empty"
            shown = sizes if isinstance(value, tuple) else reprlib.repr(value)
            raise ConfigError(f"{name} is {shown}, expected {expected}")

    @property
    def architecture(self) -> Architecture:
        """Cell and sizes of the network."""
        return Architecture(self.cell, self.embedding_size, self.layer_sizes, self.tied)

    @property
    def dropouts(self) -> Dropouts:
        """The dropout probabilities, once they are known."""
        dropout = _known(self.dropout)
        return Dropouts(
            input=dropout if self.input_dropout is None else self.input_dropout,
            hidden=dropout,
            output=dropout if self.output_dropout is None else self.output_dropout,
            embedding=self.embedding_dropout,
            weight=self.weight_dropout,
            locked=self.locked,
        )

    @property
    def total_epochs(self) -> int:
        """The number of epochs, once it is known."""
        return _known(self.epochs)

    @property
    def streams(self) -> int:
        """The number of streams trained in parallel, once it is known."""
        return _known(self.batch_size)

    @property
    def initial_rate(self) -> float:
        """The initial learning rate, once it is known."""
        return _known(self.learning_rate)

    def adapted_to(self, tokens: int) -> "TrainConfig":
        """A copy for a training text of this number of tokens: what adapts to it and is None here has a value."""
        return dataclasses.replace(self, **self.adapted(tokens))

    def adapted(self, tokens: int) -> dict[str, Any]:
        """Name -> value, for a training text of this number of tokens, of the settings that are None here and adapt."""
        return {name: value for name, value in adapted_settings(tokens).items() if getattr(self, name) is None}

    def learning_rate_at(self, progress: float, drops: int = 0) -> float:
        """The learning rate after `progress` epochs (2.5: in the middle of the third) and `drops` plateaus."""
        rate = self.initial_rate * min(1.0, progress / self.warmup_epochs if self.warmup_epochs else 1.0)
        if self.schedule == "cosine":
            return rate * 0.5 * (1 + math.cos(math.pi * min(progress / self.total_epochs, 1.0)))
        decays = drops if self.schedule == "plateau" else max(int(progress) - self.decay_after, 0)
        return float(rate * self.decay**decays)

    def full_softmax_at(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, is one of the last, whose softmax sums over all tokens."""
        return epoch >= self.total_epochs * (1 - self.full_softmax_share)

    def with_settings(self, settings: Mapping[str, str]) -> "TrainConfig":
        """A copy with fields replaced, whose values are text as in `--set key=value`.

        Raises:
            ConfigError: A field is unknown (the message names the nearest one), or a value does not fit it.
        """
        if "preset" in settings:
            raise _unknown_setting("preset")
        return dataclasses.replace(self, **_parse_pairs(settings))

    def to_json(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return {**dataclasses.asdict(self), "layer_sizes": list(self.layer_sizes)}

    @classmethod
    def from_json(cls, value: Any) -> "TrainConfig":
        """Read the output of `to_json`.

        Raises:
            ConfigError: A field is missing, unknown, of another type, or outside its range.
        """
        if not isinstance(value, dict):
            raise ConfigError(f"the configuration must be an object, found {type(value).__name__}")
        missing = sorted(setting_types().keys() - value.keys() - _LATER)
        if missing:
            raise ConfigError(f"the configuration lacks {', '.join(missing)}")
        texts = {key: item if isinstance(item, str) else json.dumps(item) for key, item in value.items()}
        return cls(**_parse_pairs(texts))


_Value = TypeVar("_Value")


def _known(value: _Value | None) -> _Value:
    assert value is not None, "call `adapted_to` first"
    return value


def setting_text(value: Any) -> str:
    """A value as `--set` takes it: `256,128`, `true`, `none`, `0.5`."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def setting_types() -> dict[str, Any]:
    """Field name -> type of the configuration."""
    return typing.get_type_hints(TrainConfig)


def _parse_pairs(texts: Mapping[str, str]) -> dict[str, Any]:
    field_types = setting_types()
    return {key: _parse(key, field_types.get(key), text) for key, text in texts.items()}


def _parse(key: str, field_type: Any, text: str) -> Any:
    if field_type is None:
        raise _unknown_setting(key)
    if isinstance(field_type, types.UnionType):
        if text in ("none", "null"):
            return None
        field_type = next(part for part in typing.get_args(field_type) if part is not types.NoneType)
    try:
        if isinstance(field_type, types.GenericAlias):
            return tuple(int(part) for part in text.strip("[]() ").split(",") if part.strip())
        if field_type is bool:
            return {"true": True, "false": False}[text.lower()]
        return field_type(text)
    except (ValueError, KeyError) as error:
        fix = "; name one field with each --set" if "=" in text else ""
        expected = "numbers like 256,128" if isinstance(field_type, types.GenericAlias) else _TYPE_NAMES[field_type]
        raise ConfigError(f"{key} is {reprlib.repr(text)}, expected {expected}{fix}") from error


def _unknown_setting(key: str) -> ConfigError:
    known = [name for name in setting_types() if name != "preset"]
    near = difflib.get_close_matches(key[:100], known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"there is no setting {reprlib.repr(key)}{hint} (all of them: lmtool settings)")

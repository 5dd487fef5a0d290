"""The training configuration: one flat, frozen, validated dataclass, and the presets that fill it."""

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from ..runtime.artifact import CELLS, Architecture
from ..runtime.tokenization import RULES
from .corpus import AUTO
from .errors import ConfigError

_CHOICES = {
    "cell": tuple(CELLS),
    "tokenization": (AUTO, *RULES),
    "optimizer": ("sgd", "adam"),
    "schedule": ("step", "cosine"),
}


_WIDEST = 2**16


def _is_width(value: int) -> bool:
    return 1 <= value <= _WIDEST


@final
@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training computes, but for the corpus and the device.

    Attributes:
        preset: The preset it began from.
        cell: Recurrent cell of every layer: `lstm`, `gru` or `rnn` (tanh).
        embedding_size: Width of a token's vector.
        layer_sizes: Hidden size of each layer, first to last.
        tied: Share one matrix between embedding and output projection; the last layer is then as wide as the embedding.
        dropout: Probability of dropping an input and each layer's output (1 - keep_prob).
        init_range: Weights begin uniform in (-init_range, init_range), biases at 0.
        tokenization: Rule that makes tokens of text (`lmtool.runtime.RULES`); `auto` takes the corpus' own.
        min_count: Tokens seen less often in the training text become the unknown token.
        batch_size: Streams trained side by side.
        steps: Tokens of each stream between updates (truncated back-propagation through time).
        epochs: Passes over the training text.
        optimizer: `sgd` or `adam` (betas 0.9, 0.999).
        learning_rate: At the start.
        schedule: `step`: times decay^max(epoch - decay_after, 0), epoch from 0. `cosine`: half a cosine, down to 0.
        decay: See `schedule`.
        decay_after: See `schedule`.
        clip_norm: Largest global norm of the gradient of the loss, which is summed over time, averaged over the batch.
        seed: Seed of the initial weights and of dropout.
    """

    preset: str
    cell: str = "lstm"
    embedding_size: int = 200
    layer_sizes: tuple[int, ...] = (200, 200)
    tied: bool = False
    dropout: float = 0.0
    init_range: float = 0.1
    tokenization: str = AUTO
    min_count: int = 1
    batch_size: int = 30
    steps: int = 20
    epochs: int = 13
    optimizer: str = "sgd"
    learning_rate: float = 1.0
    schedule: str = "step"
    decay: float = 0.5
    decay_after: int = 4
    clip_norm: float = 5.0
    seed: int = 1

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A field is outside its range.
        """
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(choices)}")
        for name in ("min_count", "batch_size", "steps", "epochs"):
            self._require(name, lambda value: value >= 1, "1 or more")
        self._require("embedding_size", _is_width, f"1 to {_WIDEST:,}")
        self._require(
            "layer_sizes", lambda value: len(value) > 0 and all(map(_is_width, value)), f"sizes of 1 to {_WIDEST:,}"
        )
        self._require("dropout", lambda value: 0 <= value < 1, "0 or more and below 1")
        for name in ("init_range", "learning_rate", "decay", "clip_norm"):
            self._require(name, lambda value: 0 < value < float("inf"), "a positive number")
        self._require("seed", lambda value: 0 <= value < 2**63, "0 or more, below 2^63")
        self._require("decay_after", lambda value: value >= 0, "0 or more")
        if self.tied and self.layer_sizes[-1] != self.embedding_size:
            raise ConfigError(
                f"tied weights need a last layer as wide as the embedding: layer_sizes ends with "
                f"{self.layer_sizes[-1]}, embedding_size is {self.embedding_size}"
            )

    def _require(self, name: str, holds: Callable[[Any], bool], expected: str) -> None:
        value = getattr(self, name)
        if not holds(value):
            raise ConfigError(f"{name} is {value!r}, expected {expected}")

    @property
    def architecture(self) -> Architecture:
        """The part that shapes the network."""
        return Architecture(self.cell, self.embedding_size, self.layer_sizes, self.tied)

    def learning_rate_at(self, progress: float) -> float:
        """The learning rate after `progress` epochs (2.5: in the middle of the third)."""
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress / self.epochs, 1.0)))
        return float(self.learning_rate * self.decay ** max(int(progress) - self.decay_after, 0))

    def with_settings(self, settings: Mapping[str, str]) -> "TrainConfig":
        """A copy with fields replaced by text values, as `--set key=value` gives them.

        Raises:
            ConfigError: A key is no field (the message names the nearest one), or a value does not fit it.
        """
        if "preset" in settings:
            raise _no_setting("preset")
        return dataclasses.replace(self, **{key: _parse(key, text) for key, text in settings.items()})

    def to_json(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return {**dataclasses.asdict(self), "layer_sizes": list(self.layer_sizes)}

    @classmethod
    def from_json(cls, value: Any) -> "TrainConfig":
        """Read what `to_json` gave.

        Raises:
            ConfigError: A field is missing, unknown, of another type, or outside its range.
        """
        if not isinstance(value, dict):
            raise ConfigError(f"the configuration must be an object, found {type(value).__name__}")
        missing = sorted(_TYPES.keys() - value.keys())
        if missing:
            raise ConfigError(f"the configuration lacks {', '.join(missing)}")
        return cls(
            **{key: _parse(key, item if isinstance(item, str) else json.dumps(item)) for key, item in value.items()}
        )


_TYPES: dict[str, Any] = typing.get_type_hints(TrainConfig)


def _parse(key: str, text: str) -> Any:
    if key not in _TYPES:
        raise _no_setting(key)
    kind = _TYPES[key]
    try:
        if isinstance(kind, types.GenericAlias):
            return tuple(int(part) for part in text.strip("[]() ").split(",") if part.strip())
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError) as error:
        shape = "numbers like 256,128" if isinstance(kind, types.GenericAlias) else _KIND_NAMES[kind]
        raise ConfigError(f"{key} is {text!r}, expected {shape}") from error


def _no_setting(key: str) -> ConfigError:
    known = [name for name in _TYPES if name != "preset"]
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return ConfigError(f"there is no setting {key!r}{hint} All: {', '.join(known)}")


_KIND_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}

PRESETS = {
    config.preset: config
    for config in (
        TrainConfig(
            "quick",
            embedding_size=192,
            layer_sizes=(192,),
            tied=True,
            dropout=0.3,
            min_count=3,
            batch_size=32,
            steps=32,
            epochs=6,
            optimizer="adam",
            learning_rate=0.004,
            schedule="cosine",
        ),
        TrainConfig("ptb-200"),
        TrainConfig("ptb-256-128", layer_sizes=(256, 128), batch_size=60, epochs=15),
    )
}
"""Preset name -> configuration. `ptb-200` and `ptb-256-128` are the recipes of the Penn Treebank tutorials (published
for the first: perplexity 121.4 valid, 115.9 test); `quick` is ours, for a few minutes on two cores."""


def preset_named(name: str) -> TrainConfig:
    """The preset with this name.

    Raises:
        ConfigError: There is none.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[name]

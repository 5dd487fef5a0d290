"""Fine-tuning: a training that starts from the best weights of another run, with its vocabulary and network."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..checkpoint import weights_hash
from ..data.corpus import Corpus, load_corpus_with, require_tokens
from ..errors import ConfigError, RunError
from ..run import Run
from .config import TrainConfig, setting_text

_KEPT = ("cell", "embedding_size", "layer_sizes", "tied", "tokenization", "vocabulary_size", "min_count")
"""Settings that weights and vocabulary decide."""


def tuned_config(source: Run, settings: Mapping[str, str]) -> TrainConfig:
    """The configuration of `source` with `settings`; the number of epochs adapts to the new text unless it is set.

    Other settings that adapted to the text of `source` stay, unless they are set to none.

    Raises:
        ConfigError: A setting contradicts the weights or the vocabulary.
        RunError: `source` is no run.
    """
    own = source.config()
    config = dataclasses.replace(own, epochs=None).with_settings(settings)
    require_kept(config, own, str(source.path), "leave it out, or train anew: without --init")
    return config


def require_kept(config: TrainConfig, own: TrainConfig, source: str, fix: str) -> None:
    """ConfigError if a setting of `config` contradicts the weights or the vocabulary of `source`, which has `own`."""
    for key in _KEPT:
        if getattr(config, key) != getattr(own, key):
            raise ConfigError(
                f"{key} is {setting_text(getattr(config, key))}, but the weights and the vocabulary of {source} "
                f"have {setting_text(getattr(own, key))}; {fix}"
            )


def load_new_text(name: str, source: Run) -> Corpus:
    """The corpus, encoded with the vocabulary of `source`; its notes name what that lacks, and repeated lines.

    Raises:
        DataError, StorageError: As for `load_corpus`.
        RunError: As for `tuned_config`.
    """
    return require_tokens(load_corpus_with(name, source.vocabulary(), to_train=True))


def origin_of(source: Run) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The record of the run that a training starts from, and its best weights, averaged where it averages.

    Raises:
        RunError, CheckpointError: As for `Run.trained`.
    """
    network, checkpoint = source.trained()
    weights, imported = network.weights(), source.imported()
    if imported is None:
        corpus = source.corpus_facts()
        text = {"corpus": Path(corpus["name"]).name, "corpus_sha256": corpus["sha256"]}
    else:
        text = {"imported_file": imported["file"], "imported_sha256": imported["sha256"]}
    run = {"run": str(source.path.resolve()), "epoch": checkpoint.facts["epoch"]}
    return {**run, "weights_sha256": weights_hash(weights), **text}, weights


def weights_of_origin(facts: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights that a training started from, read again.

    Raises:
        RunError: That run is missing or has other weights by now.
    """
    found, weights = origin_of(Run(Path(facts["run"])))
    if found["weights_sha256"] != facts["weights_sha256"]:
        raise RunError(
            f"the weights of {facts['run']} have changed since this run began with them, and it has no checkpoint yet; "
            "begin a new run: --run DIR"
        )
    return weights

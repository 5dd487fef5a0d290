"""Trainers on a small corpus, and comparison of their results."""

from pathlib import Path
from typing import Any

from lmtool.model import Checkpoint, Corpus, Run, TrainConfig, Trainer, load_corpus, preset_named
from lmtool.model.checkpoint import weights_hash


def new_trainer(corpus_folder: Path, path: Path, settings: dict[str, str]) -> Trainer:
    """A trainer of a new run in the folder `path`."""
    config, corpus = _config_and_corpus(corpus_folder, settings)
    trainer = Trainer(config, corpus, Run(path))
    trainer.run.create(trainer.config, corpus)
    return trainer


def resumed_trainer(corpus_folder: Path, path: Path, settings: dict[str, str]) -> Trainer:
    """A trainer that resumes the run in the folder `path`."""
    return Trainer.resume(*_config_and_corpus(corpus_folder, settings), Run(path))


def _config_and_corpus(corpus_folder: Path, settings: dict[str, str]) -> tuple[TrainConfig, Corpus]:
    config = preset_named("ptb-200").with_settings(settings)
    return config, load_corpus(str(corpus_folder), config.tokenization)


def latest_weights_hash(path: Path) -> str:
    """Hash of the weights in the latest checkpoint of the run in the folder `path`."""
    return weights_hash(Checkpoint.read(Run(path).latest).group("model"))


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records without the entries that differ from run to run."""
    times = ("seconds", "time", "tokens_per_second")
    return [{key: record[key] for key in record if key not in times} for record in history]

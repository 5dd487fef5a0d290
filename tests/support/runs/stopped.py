"""Trainers on a small corpus, stopping them, and what is left when one compares two trainings."""

import os
import signal
from pathlib import Path
from typing import Any

from lmtool.model import Checkpoint, Run, Trainer, load_corpus, preset_named
from lmtool.model.checkpoint import weights_hash
from support.runs.tiny import SETTINGS, Silent

DROPOUT = {**SETTINGS, "dropout": "0.2"}


def new_trainer(corpus_folder: Path, path: Path, settings: dict[str, str], *, create: bool = True) -> Trainer:
    """A trainer in the run folder `path`, which is made unless it is there (`create=False`)."""
    config = preset_named("ptb-200").with_settings(settings)
    corpus = load_corpus(str(corpus_folder), config.tokenization)
    made = Trainer(config, corpus, Run(path))
    if create:
        Run(path).create(made.config, corpus)
    return made


def final_weights(path: Path) -> str:
    return weights_hash(Checkpoint.read(Run(path).latest).group("model"))


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: record[key] for key in record if key not in ("seconds", "tokens_per_second")} for record in history]


class StopAfter(Silent):
    """Sends this process SIGTERM once so many steps are done."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def step(self, *_: object) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGTERM)

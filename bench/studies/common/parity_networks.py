"""The twenty networks that `parity.py` exports: texts, settings, training."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from lmtool.model.data.texts import PYDOCS, read_splits
from lmtool.model.run import Run
from lmtool.model.training.reporters import Reporters
from lmtool.model.training.train import TrainOptions, run_training

_FILES = {"ptb": "ptb.train.txt", "shakespeare": "train.txt", "hdfs": "train.txt"}


_SIZE = 60_000
_SMALL = {"embedding_size": "64", "layer_sizes": "64", "batch_size": "8", "epochs": "25", "min_count": "3"}


@final
@dataclass(frozen=True)
class Trial:
    """A network to train: the preset `quick` at a third of its width, on a small text, with about as many steps.

    Attributes:
        name: The name of its run folder.
        corpus: `pydocs`, or a folder in DIR.
        start: Share of the training text before the slice.
        settings: Changes to these settings.
        size: Length of the slice in characters.
    """

    name: str
    corpus: str
    start: float
    settings: Mapping[str, str] = field(default_factory=dict)
    size: int = _SIZE


_QUICK = {"embedding_size": "192", "layer_sizes": "192", "batch_size": "32", "min_count": "3"}
_CHARACTERS = {"tokenization": "characters", "epochs": "8", "batch_size": "32"}
_DEEP = {"embedding_size": "64", "layer_sizes": "64,96,64", "locked": "true", "layer_init": "scaled"}

TRIALS = (
    Trial("quick", PYDOCS, 0.0, _QUICK, 330_000),
    Trial("ptb-1", "ptb", 0.0),
    Trial("shakespeare-1", "shakespeare", 0.0),
    Trial("pydocs-1", PYDOCS, 0.2),
    Trial("gru", "shakespeare", 0.3, {"cell": "gru"}),
    Trial("three-layers", "ptb", 0.5, _DEEP),
    Trial("characters", "shakespeare", 0.0, _CHARACTERS),
    Trial("untied", "ptb", 0.7, {"tied": "false", "layer_sizes": "80"}),
    Trial("hdfs", "hdfs", 0.0),
    Trial("rnn", "ptb", 0.1, {"cell": "rnn", "learning_rate": "0.002"}),
    Trial("pydocs-2", PYDOCS, 0.4, {"dropout": "0.0"}),
    Trial("ptb-2", "ptb", 0.3, {"learning_rate": "0.01", "dropout": "0.0"}),
    Trial("shakespeare-2", "shakespeare", 0.6),
    Trial("gru-untied", PYDOCS, 0.1, {"cell": "gru", "tied": "false"}),
    Trial("two-layers", "shakespeare", 0.2, {"layer_sizes": "64,64"}),
    Trial("hdfs-characters", "hdfs", 0.0, _CHARACTERS),
    Trial("ptb-3", "ptb", 0.85),
    Trial("rnn-characters", "shakespeare", 0.5, {"cell": "rnn", "learning_rate": "0.002", **_CHARACTERS}),
    Trial("pydocs-3", PYDOCS, 0.7),
    Trial("shakespeare-3", "shakespeare", 0.8, {"tied": "false", "dropout": "0.0"}),
)


def train(trial: Trial, data: Path, out: Path) -> Run:
    """The trained network in `out`; a training that was stopped continues.

    Args:
        trial: The network.
        data: Folder with the folders `ptb`, `shakespeare` and `hdfs`, each with a training text.
        out: Folder of run folders.
    """
    run = Run(out / trial.name)
    settings = {**_SMALL, "seed": str(TRIALS.index(trial) + 1), **trial.settings}
    text = _write_slice(trial, data, out / "texts" / trial.name)
    resume = run.latest.exists()
    if not resume:
        shutil.rmtree(run.path, ignore_errors=True)
    run_training(TrainOptions("quick", str(text), run.path, resume, settings, threads=1), Reporters())
    return run


def _write_slice(trial: Trial, data: Path, folder: Path) -> Path:
    """A folder with one text: whole lines of the corpus' training text."""
    if trial.corpus == PYDOCS:
        text = "".join(read_splits(PYDOCS)["train"])
    else:
        text = (data / trial.corpus / _FILES[trial.corpus]).read_text()
    start = text.find("\n", int(trial.start * len(text))) + 1 if trial.start else 0
    folder.mkdir(parents=True, exist_ok=True)
    end = text.find("\n", start + trial.size) + 1 or len(text)
    (folder / "text.txt").write_text(text[start:end])
    return folder

"""NaN and full disks stop a training, and the last good checkpoint is kept."""

import errno
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lmtool.model import DataError, Run, TrainingError, TrainOptions, evaluate_perplexity, run_training
from lmtool.runtime import StorageError
from support.runs.reporters import RecordingReporter
from support.runs.settings import DROPOUT_SETTINGS, SETTINGS
from support.runs.trainers import latest_weights_hash, new_trainer, resumed_trainer


@pytest.mark.parametrize(
    ("after", "message"),
    [(("train", 1.5), "the loss is nan at epoch 2, step 52"), (("valid", 2), "a weight is NaN or infinite")],
)
def test_nan_stops_the_training_and_keeps_the_last_checkpoint(
    tmp_path: Path, corpus_folder: Path, after: tuple[str, float], message: str
) -> None:
    trainer = new_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)

    class Poison(RecordingReporter):
        def record(self, record: dict[str, Any]) -> None:
            if (record["kind"], record["epoch"]) == after:
                with torch.no_grad():
                    trainer._learner.network.projection.bias[0] = math.nan

    with pytest.raises(TrainingError, match=rf"{message}.* try a lower learning_rate \(0.02\)"):
        trainer.train(Poison())
    network, _ = Run(tmp_path / "run").trained()
    assert math.isfinite(evaluate_perplexity(network, trainer.corpus.ids["valid"]))
    resumed = resumed_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)
    resumed.train(RecordingReporter())
    assert resumed.progress.finished


def test_weights_with_nan_never_become_the_best(tmp_path: Path, corpus_folder: Path) -> None:
    """The vector of a token that valid does not contain becomes NaN, so that the perplexity stays finite."""
    trainer = new_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)
    unseen = trainer.corpus.vocabulary.unknown_id
    assert unseen not in trainer.corpus.ids["valid"]

    class Poison(RecordingReporter):
        def step(self, *_: object) -> None:
            with torch.no_grad():
                trainer._learner.network.embedding.weight[unseen] = math.nan

    with pytest.raises(TrainingError, match="a weight is NaN or infinite"):
        trainer.train(Poison())
    assert not Run(tmp_path / "run").best.exists()


def test_a_nan_gradient_stops_before_it_reaches_the_weights(tmp_path: Path, corpus_folder: Path) -> None:
    trainer = new_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)

    class Poison(RecordingReporter):
        def record(self, record: dict[str, Any]) -> None:
            if record["kind"] == "valid":
                trainer._learner.network.projection.weight.register_hook(lambda gradient: gradient * math.nan)

    with pytest.raises(TrainingError, match="the norm of the gradient is nan at epoch 2, step 1; "):
        trainer.train(Poison())
    assert all(bool(tensor.isfinite().all()) for tensor in trainer._learner.network.weights().values())


class FailingWrites:
    """Replaces `Path.write_bytes`: the next `left` writes of a file fail half-way with a full disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, file: str = "safetensors") -> None:
        self.file = file
        self.left = 0
        self.slept: list[float] = []
        monkeypatch.setattr(Path, "write_bytes", self._patched(Path.write_bytes))
        monkeypatch.setattr("time.sleep", self.slept.append)

    def _patched(self, write: Any) -> Any:
        def write_bytes(path: Path, data: bytes) -> int:
            if self.file in path.name and self.left > 0:
                self.left -= 1
                write(path, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(write(path, data))

        return write_bytes


@pytest.mark.parametrize("file", ["best.safetensors", "latest.safetensors", "metrics.jsonl", "curves.png"])
def test_a_failed_write_is_repeated(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    trainer = new_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)
    disk = FailingWrites(monkeypatch, file)
    disk.left = 2
    trainer.train(RecordingReporter())
    assert disk.slept == [0.5, 2.0]
    assert trainer.progress.finished


def test_a_full_disk_is_reported_and_the_last_checkpoint_still_loads(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted = new_trainer(corpus_folder, tmp_path / "uninterrupted", DROPOUT_SETTINGS)
    uninterrupted.train(RecordingReporter())
    trainer = new_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)
    disk = FailingWrites(monkeypatch)

    class FullFromTheSecondEpoch(RecordingReporter):
        def record(self, record: dict[str, Any]) -> None:
            if record["kind"] == "train" and record["epoch"] == 1.5:
                disk.left = 100

    with pytest.raises(StorageError, match=r"cannot write .*safetensors: No space left on device"):
        trainer.train(FullFromTheSecondEpoch())
    disk.left = 0
    assert not [name for name in os.listdir(tmp_path / "run" / "checkpoints") if ".tmp" in name]
    resumed = resumed_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)
    assert resumed.progress.epoch == 1
    resumed.train(RecordingReporter())
    assert latest_weights_hash(tmp_path / "run") == latest_weights_hash(tmp_path / "uninterrupted")


def test_a_corpus_that_is_too_short_leaves_no_folder(tmp_path: Path, corpus_folder: Path) -> None:
    settings = {**SETTINGS, "batch_size": "9000"}
    with pytest.raises(DataError, match="what fits: --set batch_size="):
        run_training(
            TrainOptions("ptb-200", str(corpus_folder), tmp_path / "run", settings=settings, threads=1),
            RecordingReporter(),
        )
    assert not (tmp_path / "run").exists()

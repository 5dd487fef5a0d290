"""TensorBoard scalars: the event file holds the history of the training, also after a kill and a resume."""

import functools
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from lmtool.model import Interrupted, Run, TrainOptions, run_training
from lmtool.model.checkpoint import Checkpoint
from lmtool.runtime import StorageError
from support.corpora import write_corpus
from support.faults.injection import limit_files
from support.processes.commands import lmtool
from support.runs.reporters import RecordingReporter
from support.runs.settings import SETTINGS

pytest.importorskip("tensorboard", reason="tensorboard is not installed; pip install 'lmtool[tensorboard]'")

from lmtool.model.training.tensorboard import tensorboard_reporter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

Points = dict[str, list[tuple[int, Any]]]


class StopAtRecord(RecordingReporter):
    """Sends this process SIGTERM after a number of records."""

    def __init__(self, records: int) -> None:
        super().__init__()
        self._last = records

    def record(self, record: dict[str, Any]) -> None:
        super().record(record)
        if len(self.records) == self._last:
            os.kill(os.getpid(), signal.SIGTERM)


def options(path: Path, corpus_folder: Path | None = None, **others: Any) -> TrainOptions:
    if corpus_folder is None:
        return TrainOptions(run=path, resume=True, threads=1, **others)
    return TrainOptions("ptb-200", str(corpus_folder), path, settings=SETTINGS, threads=1, **others)


def tensorboard_points(run: Run) -> Points:
    """Tag -> (step, value) pairs in the event file."""
    events = EventAccumulator(str(run.tensorboard), {"scalars": 0}).Reload()
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def logged_points(run: Run) -> Points:
    """The same of metrics.jsonl; event files hold float32 numbers."""
    points: Points = {}
    for record in map(json.loads, run.metrics.read_text().splitlines()):
        kind, step, _ = record.pop("kind"), round(1000 * record.pop("epoch")), record.pop("time")
        for name, value in record.items():
            points.setdefault(f"{kind}/{name}", []).append((step, pytest.approx(value, rel=1e-6)))
    return points


def test_scalars_of_a_resumed_training_are_its_history(tmp_path: Path, corpus_folder: Path) -> None:
    run = Run(tmp_path / "run")
    reporter = StopAtRecord(25)
    with pytest.raises(Interrupted):
        run_training(options(run.path, corpus_folder, tensorboard=True), reporter)
    assert len(reporter.records) == 25
    assert tensorboard_points(run) == logged_points(run)
    with SummaryWriter(str(run.tensorboard)) as lost:  # as after a kill: points that no checkpoint has
        lost.add_scalar("train/loss", 9.0, 1999)
    assert tensorboard_points(run) != logged_points(run)
    reporter = RecordingReporter()
    run_training(options(run.path, tensorboard=True), reporter)
    assert reporter.records[-1]["kind"] == "test"
    points = tensorboard_points(run)
    assert points == logged_points(run)
    assert len(points["train/loss"]) == 40
    assert [step for step, _ in points["valid/perplexity"]] == [1000, 2000]
    assert {"train/perplexity", "train/learning_rate", "train/tokens_per_second", "test/perplexity"} < set(points)
    assert len(list(run.tensorboard.iterdir())) == 1


def test_a_finished_run_can_get_scalars_later(tmp_path: Path, corpus_folder: Path) -> None:
    run = Run(tmp_path / "run")
    run_training(options(run.path, corpus_folder), RecordingReporter())
    assert not run.tensorboard.exists()
    metrics, best = run.metrics.read_bytes(), run.best.read_bytes()
    for enabled in (True, True, False):
        run_training(options(run.path, tensorboard=enabled), RecordingReporter())
        assert tensorboard_points(run) == logged_points(run)
    assert (run.metrics.read_bytes(), run.best.read_bytes()) == (metrics, best)


def test_other_files_in_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with tensorboard_reporter(tmp_path, [{"kind": "valid", "epoch": 1, "perplexity": float("inf")}]):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert EventAccumulator(str(tmp_path)).Reload().Scalars("valid/perplexity")[0].value == float("inf")


def test_error_for_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    hook = threading.excepthook
    with (
        pytest.raises(StorageError, match="cannot make the folder .*file"),
        tensorboard_reporter(tmp_path / "file", []),
    ):
        pass
    assert threading.excepthook is hook


def lengthen_history(run: Run, times: int) -> int:
    """Repeat the records of a finished training; returns the size of its metrics in bytes then."""
    latest = Checkpoint.read(run.latest)
    latest.facts["position"]["history"] *= times
    latest.write(run.latest)
    return run.metrics.stat().st_size * times


def test_error_for_a_full_disk(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "data", (100, 10, 10))  # its token ids fit
    run_training(
        TrainOptions("ptb-200", str(data), tmp_path / "run", settings=SETTINGS, threads=1), RecordingReporter()
    )
    limit = lengthen_history(Run(tmp_path / "run"), 200) + 500  # more than a picture takes, less than the scalars
    limited = functools.partial(limit_files, limit)
    finished = lmtool("train", "--run", "run", "--resume", "--tensorboard", cwd=tmp_path, prepare=limited)
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1] == "error: cannot write in run/tensorboard: File too large"
    assert "Traceback" not in finished.stderr

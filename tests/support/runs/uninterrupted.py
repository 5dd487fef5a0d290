"""A training that ran without interruption, to compare interrupted run folders with."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lmtool.model import Checkpoint, Run
from lmtool.model.checkpoint import weights_hash
from lmtool.runtime import LmtoolError

from support.corpora import write_corpus
from support.processes.commands import Command
from support.runs.reporters import RecordingReporter, StopAfter
from support.runs.settings import DROPOUT_SETTINGS
from support.runs.trainers import latest_weights_hash, new_trainer, without_times

EVERY_STEP_MINUTES = 1e-9
"""A checkpoint interval of one step."""

_PRESET = "ptb-200"


@final
@dataclass(frozen=True)
class SavedProgress:
    """How far a training has come, by its latest checkpoint.

    Attributes:
        steps: Finished steps of all epochs.
        finished: Whether the training is finished.
    """

    steps: int
    finished: bool


@final
@dataclass(frozen=True)
class UninterruptedRun:
    """A run whose steps take ten milliseconds, each with a record and a checkpoint.

    Attributes:
        path: The run folder.
        data: The corpus folder.
        log: The records without times.
        best: Epoch -> hash of the best weights after it.
    """

    path: Path
    data: Path
    log: list[dict[str, Any]]
    best: dict[int, str]

    @classmethod
    def make(cls, folder: Path) -> "UninterruptedRun":
        """Train in a new folder."""
        data = write_corpus(folder / "data", (35, 10, 10))
        trainer = new_trainer(data, folder / "uninterrupted", DROPOUT_SETTINGS)
        best = {}

        class BestHashes(RecordingReporter):
            def record(self, record: dict[str, Any]) -> None:
                if record["kind"] == "valid":
                    checkpoint = Checkpoint.read(trainer.run.best)
                    best[checkpoint.facts["epoch"]] = weights_hash(checkpoint.group("model"))

        trainer.train(BestHashes(), 1e-9)
        return cls(folder / "uninterrupted", data, without_times(trainer.progress.history), best)

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of an epoch."""
        return sum(record["kind"] == "train" for record in self.log) // max(self.best)

    def command(self, folder: Path) -> list[object]:
        """Arguments of `lmtool` that train into a folder, or resume its run."""
        options: list[object] = ["--run", folder, "--threads", 1, "--checkpoint-minutes", EVERY_STEP_MINUTES]
        if (folder / "config.json").exists():
            return ["train", "--resume", *options]
        settings = [part for key, value in DROPOUT_SETTINGS.items() for part in ("--set", f"{key}={value}")]
        return ["train", "--preset", _PRESET, "--data", self.data, *options, *settings]

    def stopped_after(self, folder: Path, steps: int) -> Path:
        """Train into a folder and stop after a number of steps."""
        trainer = new_trainer(self.data, folder, DROPOUT_SETTINGS)
        try:
            trainer.train(StopAfter(steps), 1e-9)
        except LmtoolError:
            return folder
        raise AssertionError(f"the training ended before step {steps}")

    def progress(self, folder: Path) -> SavedProgress:
        """Progress of the run in a folder."""
        latest = Run(folder).latest
        if not latest.exists():
            return SavedProgress(0, False)
        position = Checkpoint.read(latest).facts["position"]
        return SavedProgress(position["epoch"] * self.steps_per_epoch + position["step"], position["finished"])

    def faults(self, folder: Path) -> dict[str, str]:
        """Faults of a run folder that was interrupted at any moment: `unusable`, `mixed` or `lost` -> description."""
        run = Run(folder)
        if not (folder / "config.json").exists():
            return {}
        try:
            run.config(), run.vocabulary()
            latest = Checkpoint.read(run.latest) if run.latest.exists() else None
            best = run.trained()[1] if run.best.exists() else None
            logged = [json.loads(line) for line in run.metrics.read_text().splitlines()]
        except (LmtoolError, ValueError, OSError) as error:
            return {"unusable": str(error)}
        position = latest.facts["position"] if latest else {"epoch": 0, "step": 0, "history": []}
        faults = {}
        if mixed := self._mixed(without_times(logged), without_times(position["history"]), best, position["epoch"]):
            faults["mixed"] = mixed
        done = max((record["epoch"] for record in logged), default=0) * self.steps_per_epoch
        lost = round(done) - position["epoch"] * self.steps_per_epoch - position["step"]
        if lost > 1:
            faults["lost"] = f"{lost} steps"
        return faults

    def _mixed(
        self, logged: list[dict[str, Any]], history: list[dict[str, Any]], best: Checkpoint | None, epoch: int
    ) -> str:
        if logged != self.log[: len(logged)] or history != self.log[: len(history)]:
            return "the log is another training's"
        if best is None:
            return "there is no best checkpoint" if epoch > 0 else ""
        best_epoch = best.facts["epoch"]
        if weights_hash(best.group("model")) != self.best.get(best_epoch) or best_epoch > epoch + 1:
            return f"the best checkpoint is of epoch {best_epoch}, the latest of {epoch}"
        return ""

    def differences(self, folder: Path) -> list[str]:
        """Differences between a finished run and this one."""
        run, reference = Run(folder), Run(self.path)
        logged = [json.loads(line) for line in run.metrics.read_text().splitlines()]
        best, reference_best = Checkpoint.read(run.best), Checkpoint.read(reference.best)
        differs = {
            "the log": without_times(logged) != self.log,
            "the last weights": latest_weights_hash(folder) != latest_weights_hash(self.path),
            "the best weights": weights_hash(best.group("model")) != weights_hash(reference_best.group("model")),
            "their facts": best.facts != reference_best.facts,
            "leftovers": any(folder.rglob("*.tmp")),
            "the picture": not run.curves.is_file(),
        }
        assert math.isfinite(best.facts["test_perplexity"])
        return [what for what, is_different in differs.items() if is_different]


def wait_for_saves(command: Command, path: Path, count: int) -> None:
    """Wait until a command has replaced a file `count` times, or has ended; -1: do not wait for its first save."""
    before, seen = _identity(path), -1
    while seen < count and command.runs_for(0.001):
        now = _identity(path)
        seen += (now != before) if seen >= 0 else 1
        before = now


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns

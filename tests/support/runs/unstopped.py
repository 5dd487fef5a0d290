"""A training that nothing ever stopped, and how run folders that something did stop compare with it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from support.processes.commands import Command
from support.corpora import write_corpus
from lmtool.model import Checkpoint, Run
from lmtool.model.checkpoint import weights_hash
from lmtool.runtime import LmtoolError
from support.runs.tiny import Silent
from support.runs.stopped import DROPOUT, StopAfter, final_weights, new_trainer, without_times

EVERY_STEP_MINUTES = 1e-9
"""A checkpoint interval of one step."""

_PRESET = "ptb-200"


@final
@dataclass(frozen=True)
class Progress:
    """How far a training has come, by its latest checkpoint.

    Attributes:
        steps: Of all its epochs.
        finished: Whether nothing is left to do.
    """

    steps: int
    finished: bool


@final
@dataclass(frozen=True)
class Unstopped:
    """The folder of the run, and of its corpus.

    A step in ten milliseconds, each with a record and a checkpoint.
    """

    path: Path
    data: Path
    log: list[dict[str, Any]]
    best: dict[int, str]

    @classmethod
    def make(cls, folder: Path) -> "Unstopped":
        data = write_corpus(folder / "data", (35, 10, 10))
        trainer = new_trainer(data, folder / "unstopped", DROPOUT)
        best = {}

        class Hashes(Silent):
            def record(self, record: dict[str, Any]) -> None:
                if record["kind"] == "valid":
                    held = Checkpoint.read(trainer.run.best)
                    best[held.facts["epoch"]] = weights_hash(held.group("model"))

        trainer.train(Hashes(), 1e-9)
        return cls(folder / "unstopped", data, without_times(trainer.position.history), best)

    @property
    def steps_per_epoch(self) -> int:
        return sum(record["kind"] == "train" for record in self.log) // max(self.best)

    def command(self, folder: Path) -> list[object]:
        """Train into a folder, or go on with what it holds."""
        options: list[object] = ["--run", folder, "--threads", 1, "--checkpoint-minutes", EVERY_STEP_MINUTES]
        if (folder / "config.json").exists():
            return ["train", "--resume", *options]
        settings = [part for key, value in DROPOUT.items() for part in ("--set", f"{key}={value}")]
        return ["train", "--preset", _PRESET, "--data", self.data, *options, *settings]

    def stopped_after(self, folder: Path, steps: int) -> Path:
        """A folder whose training was asked to stop after so many steps."""
        trainer = new_trainer(self.data, folder, DROPOUT)
        try:
            trainer.train(StopAfter(steps), 1e-9)
        except LmtoolError:
            return folder
        raise AssertionError(f"the training ended before step {steps}")

    def progress(self, folder: Path) -> Progress:
        latest = Run(folder).latest
        if not latest.exists():
            return Progress(0, False)
        position = Checkpoint.read(latest).facts["position"]
        return Progress(position["epoch"] * self.steps_per_epoch + position["step"], position["finished"])

    def wrong_with(self, folder: Path) -> dict[str, str]:
        """What is wrong with a folder that was left at any moment: `unusable`, `mixed` or `lost` -> in words."""
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
        found = {}
        if mixed := self._mixed(without_times(logged), without_times(position["history"]), best, position["epoch"]):
            found["mixed"] = mixed
        done = max((record["epoch"] for record in logged), default=0) * self.steps_per_epoch
        lost = round(done) - position["epoch"] * self.steps_per_epoch - position["step"]
        if lost > 1:
            found["lost"] = f"{lost} steps"
        return found

    def _mixed(
        self, logged: list[dict[str, Any]], history: list[dict[str, Any]], best: Checkpoint | None, epoch: int
    ) -> str:
        if logged != self.log[: len(logged)] or history != self.log[: len(history)]:
            return "the log is another training's"
        if best is None:
            return "there is no best checkpoint" if epoch > 0 else ""
        held = best.facts["epoch"]
        if weights_hash(best.group("model")) != self.best.get(held) or held > epoch + 1:
            return f"the best checkpoint is of epoch {held}, the latest of {epoch}"
        return ""

    def differences(self, folder: Path) -> list[str]:
        """What a finished run has that this one has not."""
        run, ours = Run(folder), Run(self.path)
        logged = [json.loads(line) for line in run.metrics.read_text().splitlines()]
        best, our_best = Checkpoint.read(run.best), Checkpoint.read(ours.best)
        found = {
            "the log": without_times(logged) != self.log,
            "the last weights": final_weights(folder) != final_weights(self.path),
            "the best weights": weights_hash(best.group("model")) != weights_hash(our_best.group("model")),
            "their facts": best.facts != our_best.facts,
            "leftovers": any(folder.rglob("*.tmp")),
            "the picture": not run.curves.is_file(),
        }
        assert math.isfinite(best.facts["test_perplexity"])
        return [what for what, differs in found.items() if differs]


def wait_for_saves(command: Command, path: Path, count: int) -> None:
    """Wait until a command has replaced a file so many times, or has ended; below 0 not even until it has begun."""
    before, seen = _identity(path), -1
    while seen < count and command.runs_for(0.001):
        now = _identity(path)
        seen += (now != before) if seen >= 0 else 1
        before = now


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns

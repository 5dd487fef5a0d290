"""Every entry point that reads a file from a stranger, and the outcome of calling it."""

import contextlib
import io
import os
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmtool.bench.backends.registry import ONNXRUNTIME
from lmtool.bench.backends.source import Source
from lmtool.bench.benchmark import BenchOptions, identify
from lmtool.bench.environment import forget_peak, peak_bytes, resident_bytes
from lmtool.bench.workers.run_vectors import run_vectors
from lmtool.export.foreign.adopt import adopt
from lmtool.model import Run, TrainOptions, run_training
from lmtool.model.checkpoint import Checkpoint
from lmtool.model.evaluation import evaluate_run
from lmtool.model.foreign.importer import ImportOptions, import_weights
from lmtool.runtime import Artifact, LmtoolError, Predictor, State

from support.hostile.access_monitor import AuditMonitor
from support.runs.reporters import RecordingReporter

LONGEST_MESSAGE = 3000


class CommandRefusedError(Exception):
    """A command that ended with a message and an exit code."""


@dataclass(frozen=True)
class Sandbox:
    """A folder with a good run, its artifact and test vectors, in which files are replaced."""

    folder: Path
    good: Path
    corpus: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def model(self) -> Path:
        return self.run / "model.onnx"

    @property
    def state(self) -> Path:
        return self.run / "stream.state"

    def reset(self) -> None:
        """Put everything back as it was."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.good, self.run)

    def replace(self, files: dict[str, bytes]) -> None:
        """Replace files of the run."""
        for path, data in files.items():
            (self.run / path).write_bytes(data)

    def restore(self, files: dict[str, bytes], entry_point: str) -> None:
        """Undo `replace`, and what the entry point may have written."""
        if entry_point in MODIFYING:
            self.reset()
        self.replace({path: (self.good / path).read_bytes() for path in files})


def _load(sandbox: Sandbox) -> None:
    Predictor.load(sandbox.model)


def _load_bytes(sandbox: Sandbox) -> None:
    Predictor.load(sandbox.model.read_bytes())


def _parse(sandbox: Sandbox) -> None:
    Artifact.parse(sandbox.model.read_bytes())


def _adopt(sandbox: Sandbox) -> None:
    adopt(sandbox.model, sandbox.folder)


def _identify(sandbox: Sandbox) -> None:
    identify(BenchOptions(model=sandbox.model, against=["reference"]))


def _checkpoint(sandbox: Sandbox) -> None:
    Checkpoint.read(Run(sandbox.run).best)


def _trained(sandbox: Sandbox) -> None:
    run = Run(sandbox.run)
    _, checkpoint = run.trained()
    run.summary().format()
    run.training_facts(checkpoint)


def _evaluate(sandbox: Sandbox) -> None:
    evaluate_run(sandbox.run, str(sandbox.corpus), "valid", threads=1)


def _import(sandbox: Sandbox) -> None:
    imported = sandbox.folder / "imported"
    try:
        import_weights(ImportOptions(Run(sandbox.run).best, imported))
    finally:
        shutil.rmtree(imported, ignore_errors=True)


def _resume(sandbox: Sandbox) -> None:
    run_training(TrainOptions(run=sandbox.run, resume=True, data=str(sandbox.corpus), threads=1), RecordingReporter())


def _vectors(sandbox: Sandbox) -> None:
    run_vectors(ONNXRUNTIME, Source(sandbox.model))


def _state(sandbox: Sandbox) -> None:
    state = State.from_bytes(sandbox.state.read_bytes())
    stream = Predictor.load(sandbox.good / "model.onnx").stream(state=state)
    stream.feed("the cat")
    stream.suggest(3)


def _command(*arguments: str) -> Callable[[Sandbox], None]:
    """The command, in this process, with MODEL, RUN, CORPUS and GOOD in its arguments replaced by paths."""

    def entry_point(sandbox: Sandbox) -> None:
        from lmtool.cli import main

        names = {"MODEL": sandbox.model, "RUN": sandbox.run, "CORPUS": sandbox.corpus, "GOOD": sandbox.good}
        sys.argv = ["lmtool", *(str(names.get(argument, argument)) for argument in arguments)]
        out, error, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                main()
            except SystemExit as ending:
                code = ending.code if isinstance(ending.code, int) else 1
        if code:
            message = error.getvalue().strip().splitlines()[-1]
            assert message.startswith("error: "), error.getvalue()
            raise CommandRefusedError(error.getvalue())

    return entry_point


ENTRY_POINTS: dict[str, Callable[[Sandbox], None]] = {
    "Artifact.parse": _parse,
    "Predictor.load": _load,
    "Predictor.load of bytes": _load_bytes,
    "lmtool info": _command("info", "--model", "MODEL"),
    "lmtool verify": _command("verify", "--model", "MODEL", "--run", "GOOD"),
    "lmtool score": _command("score", "--model", "MODEL", "the cat"),
    "lmtool suggest": _command("suggest", "--model", "MODEL", "the cat"),
    "lmtool evaluate --model": _command("evaluate", "--model", "MODEL", "--data", "CORPUS"),
    "adopt": _adopt,
    "identify": _identify,
    "Checkpoint.read": _checkpoint,
    "Run.trained": _trained,
    "lmtool info --run": _command("info", "--run", "RUN"),
    "lmtool evaluate --run": _evaluate,
    "lmtool train --resume": _resume,
    "import": _import,
    "test vectors": _vectors,
    "State.from_bytes": _state,
}

MODIFYING = ("lmtool train --resume",)

READING = ("Artifact.parse", "lmtool info", "identify")
"""Entry points that read metadata and content, but do not check the graph."""

LOADING = ("Predictor.load", "Predictor.load of bytes", "lmtool verify", "lmtool score", "lmtool suggest")
LOADING += ("lmtool evaluate --model",)
"""Entry points that create a session."""


def call(
    name: str, sandbox: Sandbox, monitor: AuditMonitor, entry_point: Callable[[Sandbox], None] | None = None
) -> dict[str, Any]:
    """Call an entry point of `ENTRY_POINTS`, or `entry_point`.

    Returns:
        The outcome (`refused`, `accepted` or `untyped`), the message, and the memory and time it took.
    """
    forget_peak()
    before_bytes, started = resident_bytes(), time.monotonic()
    outcome, message = "accepted", ""
    with monitor.recording(), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            (entry_point or ENTRY_POINTS[name])(sandbox)
        except (LmtoolError, CommandRefusedError) as error:
            outcome, message = "refused", f"{type(error).__name__}: {error}"
        except BaseException:
            outcome, message = "untyped", traceback.format_exc()
    if outcome == "refused" and ("Traceback" in message or len(message) > LONGEST_MESSAGE):
        outcome = "untyped"
    return {
        "entry_point": name,
        "outcome": outcome,
        "message": message[-LONGEST_MESSAGE:],
        "extra_kb": (peak_bytes() - before_bytes) // 1024,
        "seconds": time.monotonic() - started,
        "events": monitor.events[:3],
    }


def new_sandbox(folder: Path, good: Path, corpus: Path) -> Sandbox:
    """A sandbox in which every entry point was called once, so that all imports are done."""
    folder.mkdir(parents=True, exist_ok=True)
    sandbox = Sandbox(folder, good, corpus)
    for name in ENTRY_POINTS:
        sandbox.reset()
        ENTRY_POINTS[name](sandbox)
    sandbox.reset()
    os.chdir(folder)
    return sandbox

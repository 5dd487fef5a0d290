"""Every door that a file from a stranger can come in by, and what came of trying it."""

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

from lmtool.bench.backends.registry import ONNXRUNTIME, Source
from lmtool.bench.benchmark import BenchOptions, identify
from lmtool.bench.workers.run_vectors import run_vectors
from lmtool.export.foreign.adopt import adopt
from lmtool.model import Run, TrainOptions, run_training
from lmtool.model.checkpoint import Checkpoint
from lmtool.model.evaluation import evaluate_run
from lmtool.runtime import Artifact, LmtoolError, Predictor, State

from support.hostile.bait import Guard
from support.processes.watch import forget_peak, memory_kb
from support.runs.reporters import RecordingReporter

LONGEST_MESSAGE = 3000


class CommandRefusedError(Exception):
    """A command that ended with a message and an exit code."""


@dataclass(frozen=True)
class Place:
    """A folder of its own with a good run, its artifact and test vectors, of which one file is replaced."""

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

    def renew(self) -> None:
        """Put everything back as it was."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.good, self.run)

    def replace(self, files: dict[str, bytes]) -> None:
        """Put other contents in place of files of the run."""
        for path, data in files.items():
            (self.run / path).write_bytes(data)

    def put_back(self, files: dict[str, bytes], door: str) -> None:
        """Undo `replace`, and what the door may have written."""
        if door in WRITING:
            self.renew()
        self.replace({path: (self.good / path).read_bytes() for path in files})


def _load(place: Place) -> None:
    Predictor.load(place.model)


def _load_bytes(place: Place) -> None:
    Predictor.load(place.model.read_bytes())


def _parse(place: Place) -> None:
    Artifact.parse(place.model.read_bytes())


def _adopt(place: Place) -> None:
    adopt(place.model, place.folder)


def _identify(place: Place) -> None:
    identify(BenchOptions(model=place.model, against=["reference"]))


def _checkpoint(place: Place) -> None:
    Checkpoint.read(Run(place.run).best)


def _trained(place: Place) -> None:
    run = Run(place.run)
    _, checkpoint = run.trained()
    run.summary().format()
    run.training_facts(checkpoint)


def _evaluate(place: Place) -> None:
    evaluate_run(place.run, str(place.corpus), "valid", threads=1)


def _resume(place: Place) -> None:
    run_training(TrainOptions(run=place.run, resume=True, data=str(place.corpus), threads=1), RecordingReporter())


def _vectors(place: Place) -> None:
    run_vectors(ONNXRUNTIME, Source(place.model))


def _state(place: Place) -> None:
    state = State.from_bytes(place.state.read_bytes())
    stream = Predictor.load(place.good / "model.onnx").stream(state=state)
    stream.feed("the cat")
    stream.suggest(3)


def _command(*arguments: str) -> Callable[[Place], None]:
    """The command with MODEL, RUN and CORPUS in its arguments replaced; in this process, as its imports are here."""

    def door(place: Place) -> None:
        from lmtool.cli import main

        names = {"MODEL": place.model, "RUN": place.run, "CORPUS": place.corpus, "GOOD": place.good}
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

    return door


DOORS: dict[str, Callable[[Place], None]] = {
    "Artifact.parse": _parse,
    "Predictor.load": _load,
    "Predictor.load of bytes": _load_bytes,
    "lmtool info": _command("info", "--model", "MODEL"),
    "lmtool verify": _command("verify", "--model", "MODEL", "--run", "GOOD"),
    "lmtool score": _command("score", "--model", "MODEL", "the cat"),
    "lmtool suggest": _command("suggest", "--model", "MODEL", "the cat"),
    "lmtool evaluate --model": _command("evaluate", "--model", "MODEL", "--data", "CORPUS"),
    "adopting": _adopt,
    "what bench measures": _identify,
    "Checkpoint.read": _checkpoint,
    "Run.trained": _trained,
    "lmtool info --run": _command("info", "--run", "RUN"),
    "lmtool evaluate --run": _evaluate,
    "lmtool train --resume": _resume,
    "test vectors": _vectors,
    "State.from_bytes": _state,
}

WRITING = ("lmtool train --resume",)

READING = ("Artifact.parse", "lmtool info", "what bench measures")
"""Of an artifact the metadata only, and what it holds: no graph is looked at."""

LOADING = ("Predictor.load", "Predictor.load of bytes", "lmtool verify", "lmtool score", "lmtool suggest")
LOADING += ("lmtool evaluate --model",)
"""A session is made."""


def attempt(name: str, place: Place, guard: Guard, door: Callable[[Place], None] | None = None) -> dict[str, Any]:
    """Try a door of `DOORS`, or the one that is given.

    Returns:
        How it ended (`refused`, `accepted` or `untyped`), with what message, and what it took.
    """
    forget_peak()
    held, started = memory_kb("VmRSS"), time.monotonic()
    how, message = "accepted", ""
    with guard.watching(), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            (door or DOORS[name])(place)
        except (LmtoolError, CommandRefusedError) as error:
            how, message = "refused", f"{type(error).__name__}: {error}"
        except BaseException:
            how, message = "untyped", traceback.format_exc()
    if how == "refused" and ("Traceback" in message or len(message) > LONGEST_MESSAGE):
        how = "untyped"
    return {
        "door": name,
        "how": how,
        "message": message[-LONGEST_MESSAGE:],
        "extra_kb": memory_kb("VmHWM") - held,
        "seconds": time.monotonic() - started,
        "noticed": guard.noticed[:3],
    }


def new_place(folder: Path, good: Path, corpus: Path) -> Place:
    """A place to tamper with, and every door tried once, so that what is imported at first use is here."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder, good, corpus)
    for name in DOORS:
        place.renew()
        DOORS[name](place)
    place.renew()
    os.chdir(folder)
    return place

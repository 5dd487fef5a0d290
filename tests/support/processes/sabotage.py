"""What a test does to a command in its forked process, before it begins: protections off, faults in reach.

Every function here can be the `prepare` of a `commands.Command`, alone or with its arguments in a `functools.partial`.
"""

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from lmtool.cli.signals import SignalHandlers
from lmtool.model import LanguageModel, evaluation, figures
from lmtool.model.training import trainer
from lmtool.model.training.signals import StopRequest
from lmtool.runtime import Artifact, StorageError, network, stream
from lmtool.runtime.artifact import artifact
from lmtool.runtime.io import files
from lmtool.runtime.state import State
from numpy.typing import NDArray

_LONG = 2000


def all_of(*parts: Callable[[], None]) -> None:
    """Several, in their order."""
    for part in parts:
        part()


def known_names() -> None:
    """Temporary files always get the same names, so that strace can be told of them."""
    os.urandom = bytes  # type: ignore[assignment]


def no_pauses() -> None:
    """A write that failed is tried again at once."""
    time.sleep = lambda _: None  # type: ignore[assignment]


def plain_writes() -> None:
    """Protection off: files are written in place."""

    def write(path: Path, data: bytes) -> None:
        try:
            path.write_bytes(data)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error

    files._write = write


def plain_pictures() -> None:
    """A picture is a word, written as the picture would be: to draw it takes longer than to train."""
    figures.png = lambda *_: b"picture"


def swallowed_errors() -> None:
    """Protection off: a file that cannot be written is passed over."""
    write = files._write

    def try_to(path: Path, data: bytes) -> None:
        with contextlib.suppress(StorageError):
            write(path, data)

    files._write = try_to


def stamped_files() -> None:
    """Files that are written are given a time of their own, too."""
    sync = files._sync

    def stamp(path: Path) -> None:
        os.utime(path, (0, 0))
        sync(path)

    files._sync = stamp


def deaf_trainings() -> None:
    """Protection off: a training takes no notice of SIGINT and SIGTERM."""
    StopRequest._receive = lambda *_: None  # type: ignore[method-assign]


def deaf_commands() -> None:
    """Protection off: a command takes no notice of SIGTERM."""
    SignalHandlers._on_signal = lambda *_: None  # type: ignore[method-assign]


def seldom_saved() -> None:
    """Protection off: a training saves every tenth time that it should."""
    save, due = trainer.Trainer._save, itertools.count(1)

    def seldom(saved: trainer.Trainer) -> None:
        if next(due) % 10 == 0:
            save(saved)

    trainer.Trainer._save = seldom  # type: ignore[method-assign]


def forgotten_randomness() -> None:
    """Protection off: what dropout draws does not go on where it was."""
    trainer.set_random_state = lambda *_: None


def kept_log() -> None:
    """Protection off: a resumed training adds to the log that it finds."""
    write = trainer.Trainer._write_metrics

    def add(written: trainer.Trainer) -> None:
        found = [line for line in written.run.metrics.read_text().splitlines() if line]
        write(written)
        ours = written.run.metrics.read_text().splitlines()
        written.run.metrics.write_text("".join(f"{line}\n" for line in [*found, *ours[-1:]]))

    trainer.Trainer._write_metrics = add  # type: ignore[method-assign]


def unchecked_numbers() -> None:
    """Protection off: neither weights nor states nor results are looked at."""
    artifact.require_finite_weights = lambda _: None
    State.require_finite = lambda _: None  # type: ignore[method-assign]
    network.require_finite = stream.require_finite = lambda *_: None
    evaluation.math = SimpleNamespace(isfinite=lambda _: True)


def slow_evaluation(looks: bool) -> None:
    """An evaluation of a long text takes seconds, and leaves a mark in the current folder; it looks for signals or not.

    Every few hundred tokens take a tenth of a second.
    """
    evaluate = trainer.evaluate_perplexity

    def slow(network: LanguageModel, token_ids: NDArray[np.int32], check: Callable[[], None]) -> float:
        def step() -> None:
            if len(token_ids) > _LONG:
                Path(f"evaluates-{len(token_ids)}").touch()
                time.sleep(0.1)
            if looks:
                check()

        return evaluate(network, token_ids, step)

    trainer.evaluate_perplexity = slow


def broken_reading() -> None:
    """A fault in reach of a command: reading an artifact divides by zero."""
    Artifact.read = classmethod(lambda *_: 1 / 0)  # type: ignore[method-assign, assignment]


def any_number() -> None:
    """A fault of a command: what is no number counts as 1."""
    sys.argv = [argument.replace("=nan", "=1") for argument in sys.argv]

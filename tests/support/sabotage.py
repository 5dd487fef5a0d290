"""What a test does to a command in its forked process, before it begins: protections off, faults in reach.

Every function here can be the `prepare` of a `commands.Command`, alone or with its arguments in a `functools.partial`.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from lmtool.model import evaluating, training
from lmtool.runtime import StorageError, files, initializers, predictor, stream
from lmtool.runtime.state import State


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


def forgotten_randomness() -> None:
    """Protection off: what dropout draws does not go on where it was."""
    training.set_random_state = lambda *_: None


def kept_log() -> None:
    """Protection off: a resumed training adds to the log that it finds."""
    write = training.Trainer._write_metrics

    def add(trainer: training.Trainer) -> None:
        found = [line for line in trainer.run.metrics.read_text().splitlines() if line]
        write(trainer)
        ours = trainer.run.metrics.read_text().splitlines()
        trainer.run.metrics.write_text("".join(f"{line}\n" for line in [*found, *ours[-1:]]))

    training.Trainer._write_metrics = add  # type: ignore[method-assign]


def unchecked_numbers() -> None:
    """Protection off: neither weights nor states nor results are looked at."""
    initializers.require_finite = lambda _: None
    State.require_finite = lambda _: None  # type: ignore[method-assign]
    predictor.require_finite = stream.require_finite = lambda *_: None
    evaluating.math = SimpleNamespace(isfinite=lambda _: True)

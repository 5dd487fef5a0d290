"""Changes to a command's process before the command begins: protections switched off and faults injected.

Each function can be the `prepare` of a `commands.Command`, with its arguments in a `functools.partial`.
"""

import contextlib
import itertools
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from lmtool.cli.signals import SignalHandlers
from lmtool.model import LanguageModel, evaluation, figures
from lmtool.model.training import learner, trainer
from lmtool.model.training.signals import StopRequest
from lmtool.runtime import Artifact, StorageError, cursor, network
from lmtool.runtime.artifact import artifact
from lmtool.runtime.io import files
from lmtool.runtime.state import State
from numpy.typing import NDArray

_LONG = 2000


def combine(*parts: Callable[[], None]) -> None:
    """Apply several, in order."""
    for part in parts:
        part()


def hide_package(name: str) -> None:
    """Make a package appear as not installed; it must not be imported yet."""
    assert name not in sys.modules
    sys.modules[name] = None  # type: ignore[assignment]


def write_to_full_device() -> None:
    """Connect stdout to a device without space."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def limit_files(size_bytes: int) -> None:
    """Limit the size of the files of this process, to simulate a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def fixed_temporary_names() -> None:
    """Give temporary files fixed names, so that strace can watch them."""
    os.urandom = bytes  # type: ignore[assignment]


def no_retry_delay() -> None:
    """Retry failed writes at once."""
    time.sleep = lambda _: None  # type: ignore[assignment]


def write_in_place() -> None:
    """Protection off: write files in place."""

    def write(path: Path, data: bytes) -> None:
        try:
            path.write_bytes(data)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error

    files._write = write


def placeholder_pictures() -> None:
    """Write a word instead of a picture, as drawing takes longer than training."""
    figures.png = lambda *_: b"picture"


def swallow_write_errors() -> None:
    """Protection off: ignore errors of writing."""
    write = files._write

    def try_to(path: Path, data: bytes) -> None:
        with contextlib.suppress(StorageError):
            write(path, data)

    files._write = try_to


def set_file_times() -> None:
    """Call utime for each written file too."""
    sync = files._sync

    def stamp(path: Path) -> None:
        os.utime(path, (0, 0))
        sync(path)

    files._sync = stamp


def trainings_ignore_signals() -> None:
    """Protection off: trainings ignore SIGINT and SIGTERM."""
    StopRequest._receive = lambda *_: None  # type: ignore[method-assign]


def commands_ignore_sigterm() -> None:
    """Protection off: commands ignore SIGTERM."""
    SignalHandlers._on_signal = lambda *_: None  # type: ignore[method-assign]


def save_every_tenth_time() -> None:
    """Protection off: a training makes only every tenth checkpoint."""
    save, due = trainer.Trainer._save, itertools.count(1)

    def seldom(saved: trainer.Trainer) -> None:
        if next(due) % 10 == 0:
            save(saved)

    trainer.Trainer._save = seldom  # type: ignore[method-assign]


def random_state_not_restored() -> None:
    """Protection off: a resumed training does not restore the random state."""
    learner.set_random_state = lambda *_: None


def append_to_old_log() -> None:
    """Protection off: a resumed training appends to the old log."""
    write = trainer.Trainer._write_metrics

    def add(written: trainer.Trainer) -> None:
        old = [line for line in written.run.metrics.read_text().splitlines() if line]
        write(written)
        new = written.run.metrics.read_text().splitlines()
        written.run.metrics.write_text("".join(f"{line}\n" for line in [*old, *new[-1:]]))

    trainer.Trainer._write_metrics = add  # type: ignore[method-assign]


def skip_finite_checks() -> None:
    """Protection off: weights, states and results are not checked for NaN and infinity."""
    artifact.require_finite_weights = lambda _: None
    State.require_finite = lambda _: None  # type: ignore[method-assign]
    network.require_finite = cursor.require_finite = lambda *_: None
    evaluation.math = SimpleNamespace(isfinite=lambda _: True)


def slow_evaluation(looks: bool) -> None:
    """Slow evaluations of long texts down, and create a file in the current folder when one runs.

    Args:
        looks: Whether the evaluation checks for signals.
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


def fail_to_read_artifacts() -> None:
    """Fault: reading an artifact divides by zero."""
    Artifact.read = classmethod(lambda *_: 1 / 0)  # type: ignore[method-assign, assignment]


def accept_nan() -> None:
    """Fault: NaN in an argument counts as 1."""
    sys.argv = [argument.replace("=nan", "=1") for argument in sys.argv]

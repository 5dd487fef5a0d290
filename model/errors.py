"""Errors of data, configuration and training, all subclasses of `lmtool.runtime.LmtoolError`."""

import signal
from pathlib import Path

from ..runtime.errors import LmtoolError


class DataError(LmtoolError, ValueError):
    """A corpus that is missing, empty, too short, or not text."""


class ConfigError(LmtoolError, ValueError):
    """A preset, field or value that does not exist or is outside its range."""

    exit_code = 2


class RunError(LmtoolError, RuntimeError):
    """A run folder that is missing, unfinished, in use, or holds another run."""


class CheckpointError(LmtoolError, ValueError):
    """A checkpoint that is missing, damaged, or does not fit the network."""


class WeightsError(LmtoolError, ValueError):
    """Weights from elsewhere that are damaged, or of a network that this version does not know."""


class TrainingError(LmtoolError, ArithmeticError):
    """A training that diverges, runs out of memory, or loses another process."""


class Interrupted(LmtoolError):  # noqa: N818  # the standard library says InterruptedError of system calls
    """A training that a signal stopped at a safe point; everything is saved."""

    def __init__(self, number: int, run: Path) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name}; everything is saved, go on with: "
            f"lmtool train --resume --run {run}"
        )
        self.exit_code = 128 + number

"""Runs a command repeatedly on copies of one folder, each time with a fault in another system call."""

import functools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from support.faults import injection
from support.faults.strace import CALLS, Fault, Traced, faults, run_traced
from support.processes.commands import Command, Finished, lmtool

DETERMINISTIC = functools.partial(
    injection.combine, injection.fixed_temporary_names, injection.no_retry_delay, injection.placeholder_pictures
)
"""Makes all runs of a command issue the same system calls."""


@final
@dataclass(frozen=True)
class FaultTrials:
    """A command and the folder that it runs on.

    Attributes:
        begun: Each run starts from a copy of this folder, or from nothing if it does not exist.
        folder: Path of the copy.
        command: Makes the command line for the folder.
        prepare: Changes to the command's process.
        is_target: Which written files to inject faults into.
        until: Inject only up to the first rename to this path.
    """

    begun: Path
    folder: Path
    command: Callable[[Path], list[object]]
    prepare: Callable[[], None] = DETERMINISTIC
    is_target: Callable[[str], bool] = lambda _: True
    until: Path | None = None

    @functools.cached_property
    def undisturbed(self) -> Traced:
        """A run without fault; the folder holds its result until the next run."""
        return self._run(set(), None)

    @functools.cached_property
    def watched(self) -> set[str]:
        """The target paths that the command writes, and their folders."""
        return {path for path in self.undisturbed.paths(self.folder) if self.is_target(path)}

    def fault_points(self, effects: Sequence[str]) -> list[Fault]:
        """A fault for every effect and every call."""
        traced = self.undisturbed if self.until is None else self.undisturbed.until(self.until)
        return faults(traced.counts(self.watched), effects)

    def run_with(self, fault: Fault) -> Traced:
        """A run on a new copy with this fault."""
        return self._run(self.watched, fault)

    def traced_completely(self) -> Traced:
        """A run with every system call traced."""
        return self._run(set(), None, calls=[])

    def rerun(self) -> Finished:
        """The command again, without fault, on what the last run left."""
        return lmtool(*self.command(self.folder), prepare=injection.placeholder_pictures)

    def _run(self, watched: set[str], fault: Fault | None, calls: Sequence[str] = CALLS) -> Traced:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.begun.exists():
            shutil.copytree(self.begun, self.folder)
        command = Command(*self.command(self.folder), prepare=self.prepare)
        return run_traced(command, self.folder.with_suffix(".log"), watched, fault, calls)

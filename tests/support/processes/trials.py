"""A command that is run again and again on copies of one folder, each time with another of its system calls struck."""

import functools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from support.processes import sabotage
from support.processes.commands import Command, Finished, lmtool
from support.processes.strace import CALLS, Fault, Traced, faults, run_traced

STILL = functools.partial(sabotage.all_of, sabotage.known_names, sabotage.no_pauses, sabotage.plain_pictures)
"""Every run of a command makes the same system calls, and no longer than it must."""


@final
@dataclass(frozen=True)
class Trials:
    """What is run, and on what.

    Attributes:
        begun: The folder that each run finds a copy of; where there is none, it finds nothing.
        folder: Where the copy is.
        command: The command line for that folder as it is.
        prepare: What is done to the command before it begins.
        strikes: Which of the files that the command writes are watched.
        until: Only what comes before this file is first put in place, and that, is struck.
    """

    begun: Path
    folder: Path
    command: Callable[[Path], list[object]]
    prepare: Callable[[], None] = STILL
    strikes: Callable[[str], bool] = lambda _: True
    until: Path | None = None

    @functools.cached_property
    def whole(self) -> Traced:
        """A run that nothing strikes; its result is in the folder until the next."""
        return self._run(set(), None)

    @functools.cached_property
    def watched(self) -> set[str]:
        """The paths that the command makes, writes or replaces in the folder, and the folders of those."""
        return {path for path in self.whole.paths(self.folder) if self.strikes(path)}

    def points(self, effects: Sequence[str]) -> list[Fault]:
        """Every effect on every call."""
        traced = self.whole if self.until is None else self.whole.until(self.until)
        return faults(traced.counts(self.watched), effects)

    def struck(self, fault: Fault) -> Traced:
        """A run on a new copy that the fault strikes."""
        return self._run(self.watched, fault)

    def everything(self) -> Traced:
        """A run of which every system call is traced."""
        return self._run(set(), None, calls=[])

    def again(self) -> Finished:
        """The same command on what a run left, with nothing amiss."""
        return lmtool(*self.command(self.folder), prepare=sabotage.plain_pictures)

    def _run(self, watched: set[str], fault: Fault | None, calls: Sequence[str] = CALLS) -> Traced:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.begun.exists():
            shutil.copytree(self.begun, self.folder)
        command = Command(*self.command(self.folder), prepare=self.prepare)
        return run_traced(command, self.folder.with_suffix(".log"), watched, fault, calls)

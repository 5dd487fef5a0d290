"""A history of benchmarks: the latest run beside the earlier ones, and what certainly changed."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, final

from ...runtime.errors import counted, truncated
from ...runtime.io.files import write_atomically
from ..candidates import by_reason
from ..results import Results
from .page import render_page
from .run import to_json
from .series import Series, find_series, key_of
from .storage import HistoryStorage, StoredRuns

PAGE = "history.html"
_SHOWN = 300
"""Most characters of a list of files."""


@final
@dataclass(frozen=True)
class History:
    """A folder of runs, and how much slower a runtime may have become.

    Attributes:
        folder: The folder.
        allowed: Allowed relative increase of a time at the last change of a series; None: only report.
    """

    folder: Path
    allowed: float | None = None

    def prepare(self) -> None:
        """Check that the folder can be read and written, before anything is measured.

        Raises:
            StorageError: It cannot.
        """
        HistoryStorage(self.folder).prepare()

    def append(self, results: Results) -> "HistoryReport":
        """Add results as a run, draw the page, and tell what changed. Results without times add no run.

        Raises:
            StorageError: A file cannot be read or written.
        """
        storage = HistoryStorage(self.folder)
        path = storage.append(to_json(results, datetime.now(UTC))) if results.timings else None
        name = None if path is None else path.relative_to(self.folder).as_posix()
        report = HistoryReport(self.folder, storage.read(), name, self.allowed)
        page = render_page(report.stored.runs, report.series, report.notes)
        write_atomically(report.page, page.encode(errors="replace"))
        return report


@final
@dataclass(frozen=True)
class HistoryReport:
    """Report after a run.

    Attributes:
        folder: Its folder.
        stored: Its runs.
        name: Path of the latest run's file in it; None if that run measured no times.
        allowed: See `History`.
    """

    folder: Path
    stored: StoredRuns = field(repr=False)
    name: str | None = None
    allowed: float | None = None

    @property
    def page(self) -> Path:
        """The page of curves."""
        return self.folder / PAGE

    @cached_property
    def series(self) -> Sequence[Series]:
        """All series."""
        return find_series(self.stored.runs)

    @property
    def current(self) -> list[Series]:
        """The series to which the latest run belongs, in its order."""
        latest = [run for run in self.stored.runs if run.name == self.name]
        keys = {key_of(run, each) for run in latest for each in run.measurements}
        return [series for series in self.series if series.key in keys]

    @property
    def failures(self) -> list[str]:
        """A sentence for each current series that is certainly slower than allowed since its last change."""
        if self.allowed is None:
            return []
        return [
            f"{series.name}: {series.describe(change)}, allowed {self.allowed:+.1%}"
            for series in self.current
            if (change := series.last_change) is not None and change.ratio.low > 1 + self.allowed
        ]

    @property
    def notes(self) -> list[str]:
        """Files that are left out, and a clock that went backwards."""
        left_out = by_reason(dict(self.stored.left_out))
        files = [f"{truncated(names, _SHOWN)}: {reason}" for names, reason in left_out.items()]
        clocks = [
            f"run {after.number} is dated before run {before.number}: the clock went backwards; numbers give the order"
            for before, after in itertools.pairwise(self.stored.runs)
            if after.time < before.time and after.number > before.number
        ]
        return [*(f"left out and left alone: {each}" for each in files), *clocks]

    def format(self) -> str:
        """A line for each change of the current series, then the series without one."""
        runs = counted(len(self.stored.runs), "run")
        lines = [f"history of {runs}; all changes together are certain to 99% if runs differ independently"]
        for series in self.current:
            lines += [f"  {series.name}: {series.describe(change)}" for change in series.changes]
        unchanged = {f"{each.runtime} in {each.scenario}": each.state for each in self.current if not each.changes}
        lines += [f"  {state}: {names}" for names, state in by_reason(unchanged).items()]
        others = len(self.series) - len(self.current)
        if others:
            lines.append(f"  {others} series of another machine, setting, artifact or scenario are kept apart")
        lines += [f"~ {note}" for note in self.notes]
        lines += [f"! slower: {failure}" for failure in self.failures]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The report, ready for JSON."""
        return {
            "runs": len(self.stored.runs),
            "file": self.name,
            "page": str(self.page),
            "series": [series.to_json() for series in self.current],
            "other_series": len(self.series) - len(self.current),
            "left_out": dict(self.stored.left_out),
            "notes": self.notes,
            "allowed": self.allowed,
            "failures": self.failures,
        }

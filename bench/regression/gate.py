"""The gate of a regression: what results are compared with, and how much slower they may be."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

from ...runtime.errors import OptionError
from ..errors import BenchError
from ..results import Identity, Results
from ..rounds import Schedule
from ..timing import Timing
from .comparison import Comparison, compare_in_turns, compare_runs
from .earlier_results import read_results, require_same, timings_of

_MOST_ROUNDS = 8
"""How many times as many rounds a gate may take."""

_FEWEST_ROUNDS = 2
"""Fewest rounds of earlier results that a gate decides by."""


@final
@dataclass(frozen=True)
class RegressionGate:
    """What results are compared with, and how much slower they may be.

    Attributes:
        earlier: The content of an earlier `bench.json`; None: the timings of the environment `BenchOptions.before`.
        allowed: Allowed relative increase of a time; None: only report.
        anyway: Also compare results of another machine or artifact.
        path: The file of the earlier results.
    """

    earlier: dict[str, Any] | None = None
    allowed: float | None = None
    anyway: bool = False
    path: Path | None = None

    @classmethod
    def from_file(cls, path: Path, allowed: float | None = None, anyway: bool = False) -> "RegressionGate":
        """A gate that compares with an earlier `bench.json`, which is read now: results may overwrite it.

        Raises:
            StorageError: It cannot be read.
            BenchError: It holds no results, is damaged, has another format version, or too few rounds to decide by.
        """
        gate = cls(read_results(path), allowed, anyway, path)
        if allowed is not None and any(len(timing.rounds) < _FEWEST_ROUNDS for timing in gate._timings):
            raise BenchError(
                f"{path} holds results of 1 round, expected {_FEWEST_ROUNDS} or more, so that their spread is known; "
                "measure again with more --rounds"
            )
        return gate

    @cached_property
    def _timings(self) -> Sequence[Timing]:
        """The earlier timings."""
        return [] if self.earlier is None else timings_of(self.earlier)

    def require_same(self, identity: Identity) -> None:
        """Check that results would be comparable, before anything is measured.

        Raises:
            BenchError: Machine, provider, number of threads, durations, network or artifact differs.
        """
        if self.earlier is not None and not self.anyway:
            require_same(self.earlier, identity)

    def schedule(self, schedule: Schedule) -> Schedule:
        """A schedule with enough rounds to decide."""
        if self.allowed is None or schedule.max_rounds is not None:
            return schedule
        return replace(schedule, max_rounds=_MOST_ROUNDS * schedule.rounds)

    def compare(self, results: Results) -> Comparison:
        """The comparison."""
        if self.earlier is None:
            return compare_in_turns(results.before, results, self.allowed, results.earlier)
        return compare_runs(self._timings, results, self.allowed)

    def undecided(self, results: Results) -> Sequence[str]:
        """Ratios that may or may not be larger than allowed."""
        return self.compare(results).undecided


def parse_share(text: str) -> float:
    """Parse `10%` as 0.1.

    Raises:
        OptionError: The text is not a percentage, or below 0.
    """
    number, percent, rest = text.partition("%")
    try:
        share = float(number) / 100
    except ValueError:
        share = -1.0
    if not percent or rest or not 0 <= share < math.inf:
        raise OptionError(f"{text!r} is no percentage, expected 0% or more: 10% for example")
    return share

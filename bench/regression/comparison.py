"""Compare times with earlier ones: of another run, or of an earlier environment measured in turns; a regression gate.

pytest-benchmark compares runs of one process; a result here is several rounds of many processes.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from ...runtime.io.text_table import text_table
from ..report.text import format_seconds
from ..results import Results
from ..scenario import Scenario
from ..statistics.decision import decision_confidence
from ..statistics.estimate import Estimate
from ..statistics.ratio import paired_ratio, unpaired_ratio
from ..timing import Timing

Ratio = Callable[[Sequence[float], Sequence[float], float], Estimate]
"""The ratio of times, with an interval of some confidence."""


@final
@dataclass(frozen=True)
class Change:
    """Times of a runtime in a scenario before and now (`Timing.costs`).

    Attributes:
        before: Seconds before, the geometric mean of the rounds.
        after: Seconds now.
        ratio: Now over before, with an interval of the confidence that decides.
        invalid_reasons: Why a server's run is not valid any more.
    """

    runtime: str
    scenario: Scenario
    before: float
    after: float
    ratio: Estimate
    invalid_reasons: Sequence[str] = ()

    @property
    def slower(self) -> float:
        """Relative change of the time; positive is slower."""
        return self.ratio.value - 1

    @property
    def shown(self) -> str:
        """The change in percent, with its interval."""
        ends = [f"{end - 1:+.1%}" for end in (self.ratio.low, self.ratio.high)] if self.ratio.is_bounded else []
        return f"{self.slower:+.1%}" + (f" ({' to '.join(ends)})" if ends else "")


@final
@dataclass(frozen=True)
class Comparison:
    """All changes.

    Attributes:
        changes: Timings that both have.
        missing: Timings that only the earlier ones have.
        allowed: Largest relative change that passes; None if every change passes.
        earlier: The environment that was measured in turns with this one; empty for results of an earlier run.
    """

    changes: Sequence[Change]
    missing: Sequence[str]
    allowed: float | None
    earlier: str = ""

    @property
    def failures(self) -> list[str]:
        """A sentence for each timing that is slower than allowed, invalid or missing."""
        if self.allowed is None:
            return []
        failures = [
            f"{change.runtime}, {change.scenario}: {change.shown}, allowed {self.allowed:+.1%}"
            for change in self.changes
            if self.is_slower(change)
        ]
        failures += [
            f"{change.runtime}, {change.scenario}: not valid any more: {' '.join(change.invalid_reasons)}"
            for change in self.changes
            if change.invalid_reasons
        ]
        failures += [f"{name}: measured before, not now" for name in self.missing]
        return failures or ([] if self.changes else ["nothing was measured both times"])

    @property
    def undecided(self) -> list[str]:
        """A sentence for each timing that may or may not be slower than allowed."""
        if self.allowed is None:
            return []
        return [
            f"{change.runtime}, {change.scenario}: {change.shown}, allowed {self.allowed:+.1%}"
            for change in self.changes
            if change.ratio.low <= 1 + self.allowed < change.ratio.high
        ]

    def is_slower(self, change: Change) -> bool:
        """Whether a change is certainly larger than allowed."""
        return self.allowed is not None and change.ratio.low > 1 + self.allowed

    def format(self, width: int | None = None) -> str:
        """A line for each change, then the failures; in `width` columns, None: no limit."""
        rows = [("", "", "before", "now", "change")]
        rows += [
            (
                change.runtime,
                str(change.scenario),
                format_seconds(change.before),
                format_seconds(change.after),
                change.shown,
            )
            for change in self.changes
        ]
        title = f"in turns with {self.earlier}" if self.earlier else "before and now, in two runs"
        notes = [f"! slower: {failure}" for failure in self.failures]
        notes += [f"~ too close to call: {sentence}" for sentence in self.undecided]
        return "\n".join([title, *text_table(rows, "<<>", "  ", width), *notes])

    def to_json(self) -> dict[str, Any]:
        """The comparison, ready for JSON."""
        return {
            "changes": [
                {
                    **asdict(change),
                    "scenario": str(change.scenario),
                    "slower": change.slower,
                    "ratio": change.ratio.to_json(),
                }
                for change in self.changes
            ],
            "missing": list(self.missing),
            "allowed": self.allowed,
            "earlier": self.earlier,
            "failures": self.failures,
            "undecided": self.undecided,
        }


def compare_runs(before: Sequence[Timing], now: Results, allowed: float | None) -> Comparison:
    """Compare results with timings of an earlier run.

    The intervals hold what differs between rounds, not what changed on the machine between both runs;
    `compare_in_turns` has no such gap.

    Args:
        before: The earlier timings.
        now: The results.
        allowed: Largest relative change that passes; None if every change passes.
    """
    changes, missing = _changes(before, now, unpaired_ratio)
    return Comparison(changes, missing, allowed)


def compare_in_turns(before: Sequence[Timing], now: Results, allowed: float | None, earlier: str) -> Comparison:
    """Compare results with timings of the environment `earlier`, of the same rounds."""
    changes, missing = _changes(before, now, paired_ratio)
    return Comparison(changes, missing, allowed, earlier)


def _changes(before: Sequence[Timing], now: Results, ratio: Ratio) -> tuple[list[Change], list[str]]:
    """Changes, and the timings that are missing now."""
    new = {(timing.runtime, timing.scenario): timing for timing in now.timings}
    pairs = [(old, new[old.runtime, old.scenario]) for old in before if (old.runtime, old.scenario) in new]
    confidence = decision_confidence(len(pairs), len(now.looks))
    changes = [
        Change(
            old.runtime,
            old.scenario,
            statistics.geometric_mean(old.costs),
            statistics.geometric_mean(timing.costs),
            ratio(timing.costs, old.costs, confidence),
            [] if old.invalid_reasons else timing.invalid_reasons,
        )
        for old, timing in pairs
    ]
    missing = [f"{old.runtime}, {old.scenario}" for old in before if (old.runtime, old.scenario) not in new]
    return changes, missing

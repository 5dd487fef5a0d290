"""Compare results with earlier ones of the same machine and artifacts, as a regression gate.

pytest-benchmark compares runs of one process; a result here is several rounds of many processes.
"""

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from ..runtime.errors import JsonError, OptionError
from ..runtime.io.files import read_bytes
from ..runtime.io.json_reader import LARGE_BYTES, parse_json
from ..runtime.io.text_table import text_table
from .errors import BenchError
from .report.text import format_seconds
from .results import FORMAT, Identity, Results
from .scenario import Scenario
from .timing import Timing

_SAME = ("processor", "flags", "usable_cores", "cpu_quota", "gpus")


@final
@dataclass(frozen=True)
class Change:
    """Seconds of a runtime in a scenario before and now: the median of a call, or a server's 99th percentile.

    Both are those of the fastest round: other work on a machine only makes rounds slower.

    Attributes:
        invalid_reasons: Why a server's run is not valid any more.
    """

    runtime: str
    scenario: Scenario
    before: float
    after: float
    invalid_reasons: Sequence[str] = ()

    @property
    def slower(self) -> float:
        """Relative change of the time; positive is slower."""
        return self.after / self.before - 1


@final
@dataclass(frozen=True)
class Comparison:
    """All changes.

    Attributes:
        changes: Timings that both results have.
        missing: Timings that only the earlier results have.
        allowed: Largest relative change that passes; None if every change passes.
    """

    changes: Sequence[Change]
    missing: Sequence[str]
    allowed: float | None

    @property
    def failures(self) -> list[str]:
        """A sentence for each timing that is too slow, invalid or missing."""
        if self.allowed is None:
            return []
        failures = [
            f"{change.runtime}, {change.scenario}: {change.slower:+.1%}, allowed {self.allowed:+.1%}"
            for change in self.changes
            if change.slower > self.allowed
        ]
        failures += [
            f"{change.runtime}, {change.scenario}: not valid any more: {' '.join(change.invalid_reasons)}"
            for change in self.changes
            if change.invalid_reasons
        ]
        failures += [f"{name}: measured before, not now" for name in self.missing]
        return failures or ([] if self.changes else ["nothing was measured both times"])

    def format(self, width: int | None = None) -> str:
        """A line for each change, then the failures; in `width` columns, None: no limit."""
        rows = [("", "", "before", "now", "change")]
        rows += [
            (
                change.runtime,
                str(change.scenario),
                format_seconds(change.before),
                format_seconds(change.after),
                f"{change.slower:+.1%}",
            )
            for change in self.changes
        ]
        failures = [f"! {failure}" for failure in self.failures]
        return "\n".join(["fastest round of each, before and now", *text_table(rows, "<<>", "  ", width), *failures])

    def to_json(self) -> dict[str, Any]:
        """The comparison, ready for JSON."""
        return {
            "changes": [
                {**asdict(change), "scenario": str(change.scenario), "slower": change.slower} for change in self.changes
            ],
            "missing": list(self.missing),
            "allowed": self.allowed,
            "failures": self.failures,
        }


def read_results(path: Path) -> dict[str, Any]:
    """Read a `bench.json` and check the parts that a comparison needs.

    Raises:
        StorageError: It cannot be read.
        BenchError: It holds no results, is damaged, or has another format version.
    """
    try:
        results = parse_json(read_bytes(path), LARGE_BYTES)
    except JsonError as error:
        raise BenchError(f"{path} holds no results: it {error}") from error
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        form = results.get("format") if isinstance(results, dict) else None
        raise BenchError(f"{path} holds results of format {reprlib.repr(form)}, expected {FORMAT}; measure again")
    try:
        _timings(results)
        _differences(results, results)
    except (KeyError, TypeError, ValueError, AttributeError, OptionError) as error:
        raise BenchError(f"{path} holds no whole results ({type(error).__name__}: {error}); measure again") from error
    return results


def require_same(before: Mapping[str, Any], now: Identity) -> None:
    """Check that results would be comparable, before anything is measured.

    Raises:
        BenchError: Machine, provider, number of threads, schedule, network or artifact differs.
    """
    differences = _differences(before, asdict(now))
    if differences:
        raise BenchError(
            f"the results would not belong together: {'; '.join(differences)}; to compare them anyway: --compare-anyway"
        )


def compare(before: Mapping[str, Any], now: Results, allowed: float | None) -> Comparison:
    """Compare results with the content of an earlier `bench.json`.

    Args:
        before: The content, from `read_results`.
        now: The results.
        allowed: Largest relative change that passes; None if every change passes.
    """
    old, new = _timings(before), _timings(now.to_json())
    changes = [
        Change(*key, min(timing.costs), min(new[key].costs), [] if timing.invalid_reasons else new[key].invalid_reasons)
        for key, timing in old.items()
        if key in new
    ]
    missing = [f"{name}, {scenario}" for name, scenario in old if (name, scenario) not in new]
    return Comparison(changes, missing, allowed)


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


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    pairs: list[tuple[str, Any, Any]] = [("providers", list(before["providers"]), list(now["providers"]))]
    pairs += [(name, before[name], now[name]) for name in ("threads", "schedule", "original")]
    calls = [results.get("calls", {}) for results in (before, now)]
    pairs += [(f"the calls' {name}", *(each.get(name, {}) for each in calls)) for name in ("states", "inputs")]
    pairs += [(name, before["environment"].get(name), now["environment"].get(name)) for name in _SAME]
    pairs += [
        (f"the artifact of {name}", before["artifacts"][name], sha256)
        for name, sha256 in now["artifacts"].items()
        if name in before["artifacts"]
    ]
    return [f"{name} was {_short(old)}, is {_short(new)}" for name, old, new in pairs if old != new]


def _short(value: Any) -> str:
    """Abbreviate a hash to its beginning, a long list to its length."""
    text = str(value)
    if len(text) == 64:
        return text[:12]
    return f"a list of {len(value)}" if isinstance(value, list) and len(text) > 64 else text


def _timings(results: Mapping[str, Any]) -> dict[tuple[str, Scenario], Timing]:
    timings = [Timing.from_json(timing) for timing in results["timings"]]
    return {(timing.runtime, timing.scenario): timing for timing in timings}

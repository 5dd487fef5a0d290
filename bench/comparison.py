"""Results beside earlier ones of the same machine and artifacts: what became slower, as a gate for changes.

pytest-benchmark compares runs of one process; here a result is several rounds of many processes, so this is our own.
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
from .errors import BenchError
from .report.text import format_seconds
from .results import FORMAT, Identity, Results
from .scenario import Scenario
from .timing import Timing

_SAME = ("processor", "flags", "usable_cores", "gpus")


@final
@dataclass(frozen=True)
class Change:
    """A runtime in a scenario, then and now, in seconds: a call's median, of a server the 99th percentile.

    Of each it is the fastest round: other work on a machine makes rounds slower and never faster.

    Attributes:
        runtime: Its name.
        scenario: What it did.
        before: Seconds then.
        after: Seconds now.
        invalid_reasons: Why a server's run is not valid any more.
    """

    runtime: str
    scenario: Scenario
    before: float
    after: float
    invalid_reasons: Sequence[str] = ()

    @property
    def slower(self) -> float:
        """By which share of the time before it is slower; negative where it is faster."""
        return self.after / self.before - 1


@final
@dataclass(frozen=True)
class Comparison:
    """All changes.

    Attributes:
        changes: What was measured both times.
        missing: What was measured before only.
        allowed: Share by which a call may be slower; None where nothing is a failure.
    """

    changes: Sequence[Change]
    missing: Sequence[str]
    allowed: float | None

    @property
    def failures(self) -> list[str]:
        """A sentence for each runtime and scenario that is too much slower, or was measured before only."""
        if self.allowed is None:
            return []
        slower = [change for change in self.changes if change.slower > self.allowed]
        found = [
            f"{change.runtime}, {change.scenario.name}: {change.slower:+.1%}, allowed {self.allowed:+.1%}"
            for change in slower
        ]
        found += [
            f"{change.runtime}, {change.scenario.name}: not valid any more: {' '.join(change.invalid_reasons)}"
            for change in self.changes
            if change.invalid_reasons
        ]
        found += [f"{name}: measured before, not now" for name in self.missing]
        return found or ([] if self.changes else ["nothing was measured both times"])

    def format(self) -> str:
        """A line for each change, then the failures."""
        lines = ["fastest round of each, before and now"]
        width = max((len(change.runtime) for change in self.changes), default=0)
        scenarios = max((len(str(change.scenario)) for change in self.changes), default=0)
        lines += [
            f"  {change.runtime:<{width}}  {change.scenario!s:<{scenarios}}  {format_seconds(change.before):>8}  "
            f"{format_seconds(change.after):>8}  {change.slower:+7.1%}"
            for change in self.changes
        ]
        return "\n".join([*lines, *(f"! {failure}" for failure in self.failures)])

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "changes": [
                {
                    "runtime": change.runtime,
                    "scenario": str(change.scenario),
                    "before": change.before,
                    "after": change.after,
                    "slower": change.slower,
                    "invalid_reasons": list(change.invalid_reasons),
                }
                for change in self.changes
            ],
            "missing": list(self.missing),
            "allowed": self.allowed,
            "failures": self.failures,
        }


def read_results(path: Path) -> dict[str, Any]:
    """The content of a `bench.json`, checked as far as a comparison reads it.

    Raises:
        StorageError: It cannot be read.
        BenchError: It is none, is damaged, or of another version.
    """
    try:
        found = parse_json(read_bytes(path), LARGE_BYTES)
    except JsonError as error:
        raise BenchError(f"{path} holds no results: it {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        form = found.get("format") if isinstance(found, dict) else None
        raise BenchError(f"{path} holds results of format {reprlib.repr(form)}, expected {FORMAT}; measure again")
    try:
        _timings(found)
        _differences(found, found)
    except (KeyError, TypeError, ValueError, AttributeError, OptionError) as error:
        raise BenchError(f"{path} holds no whole results ({type(error).__name__}: {error}); measure again") from error
    return found


def require_same(before: Mapping[str, Any], now: Identity) -> None:
    """Check, before anything is measured, that results would be comparable.

    Raises:
        BenchError: They would be of another machine, provider, number of threads, schedule, network or artifact.
    """
    differences = _differences(before, asdict(now))
    if differences:
        raise BenchError(
            f"the results would not belong together: {'; '.join(differences)}; compare all the same: --compare-anyway"
        )


def compare(before: Mapping[str, Any], now: Results, allowed: float | None) -> Comparison:
    """Put `now` beside the content of an earlier `bench.json`.

    Args:
        before: What `read_results` gave.
        now: What was measured now.
        allowed: Share by which a call may be slower; None where nothing is a failure.
    """
    old, new = _timings(before), _timings(now.to_json())
    changes = [
        Change(*key, min(timing.costs), min(new[key].costs), [] if timing.invalid_reasons else new[key].invalid_reasons)
        for key, timing in old.items()
        if key in new
    ]
    missing = [f"{name}, {scenario.name}" for name, scenario in old if (name, scenario) not in new]
    return Comparison(changes, missing, allowed)


def parse_share(text: str) -> float:
    """`10%` as 0.1.

    Raises:
        OptionError: The text is no percentage, or below 0.
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
    pairs += [(name, before["environment"].get(name), now["environment"].get(name)) for name in _SAME]
    pairs += [
        (f"the artifact of {name}", before["artifacts"][name], sha256)
        for name, sha256 in now["artifacts"].items()
        if name in before["artifacts"]
    ]
    return [f"{name} was {_short(then)}, is {_short(today)}" for name, then, today in pairs if then != today]


def _short(value: Any) -> str:
    """A hash by its beginning, a long list by its length."""
    text = str(value)
    if len(text) == 64:
        return text[:12]
    return f"a list of {len(value)}" if isinstance(value, list) and len(text) > 64 else text


def _timings(results: Mapping[str, Any]) -> dict[tuple[str, Scenario], Timing]:
    timings = [Timing.from_json(timing) for timing in results["timings"]]
    return {(timing.runtime, timing.scenario): timing for timing in timings}

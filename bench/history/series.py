"""A series: one runtime in one scenario over the runs of a history in which all else was the same."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

from ...runtime.errors import counted
from ..statistics.change_point import FEWEST, ChangePoint, find_changes
from .run import HistoryRun, Measurement

_ALWAYS = ("lmtool", "onnxruntime", "onnxruntime-gpu")
"""Packages whose version is named at every change."""


class Key(NamedTuple):
    """Identity of a series: all that its measurements have in common; machine and setting are JSON."""

    machine: str
    setting: str
    artifact: str | None
    runtime: str
    scenario: str


@final
@dataclass(frozen=True)
class Point:
    """A run of a series, and what it measured."""

    run: HistoryRun
    measurement: Measurement


@final
@dataclass(frozen=True)
class Series:
    """A runtime in a scenario, on one machine, with one setting and one artifact.

    Attributes:
        key: What its runs have in common.
        points: Its runs, in order.
        together: Number of series of the same machine that are searched for changes.
    """

    key: Key
    points: Sequence[Point]
    together: int

    @property
    def runtime(self) -> str:
        """The runtime."""
        return self.key.runtime

    @property
    def scenario(self) -> str:
        """The scenario."""
        return self.key.scenario

    @property
    def name(self) -> str:
        """Runtime and scenario."""
        return f"{self.runtime}, {self.scenario}"

    @cached_property
    def changes(self) -> list[ChangePoint]:
        """The changes that are certain."""
        return find_changes([point.measurement.cost.value for point in self.points], self.together)

    @property
    def last_change(self) -> ChangePoint | None:
        """The last change that is certain."""
        return self.changes[-1] if self.changes else None

    @property
    def is_too_short(self) -> bool:
        """Whether it has too few runs for a change to be found."""
        return len(self.points) < 2 * FEWEST

    @property
    def state(self) -> str:
        """State without a change."""
        runs = counted(len(self.points), "run")
        if self.is_too_short:
            return f"{runs}, too few to tell: a change needs {FEWEST} before it and {FEWEST} after"
        return f"no change is certain in {runs}"

    def describe(self, change: ChangePoint) -> str:
        """How much slower or faster, since which run, and with which versions."""
        run = self.points[change.first].run
        before = self.points[change.first - 1].run
        return f"{format_change(change)} since run {run.number} of {run.day}: {_describe_versions(before, run)}"

    def to_json(self) -> dict[str, Any]:
        """The series, ready for JSON."""
        return {
            "runtime": self.runtime,
            "scenario": self.scenario,
            "artifact": self.key.artifact,
            "runs": [
                {"run": point.run.number, "file": point.run.name, "seconds": point.measurement.cost.to_json()}
                for point in self.points
            ],
            "too_few_runs": self.is_too_short,
            "changes": [
                {
                    "run": self.points[change.first].run.number,
                    "file": self.points[change.first].run.name,
                    "ratio": change.ratio.to_json(),
                    "confidence": change.confidence,
                    "versions": changed_versions(self.points[change.first - 1].run, self.points[change.first].run),
                }
                for change in self.changes
            ],
        }


def find_series(runs: Sequence[HistoryRun]) -> list[Series]:
    """All series of a history."""
    points: dict[Key, list[Point]] = {}
    for run in runs:
        for measurement in run.measurements:
            points.setdefault(key_of(run, measurement), []).append(Point(run, measurement))
    searched = Counter(key.machine for key, each in points.items() if len(each) >= 2 * FEWEST)
    return [Series(key, each, max(searched[key.machine], 1)) for key, each in points.items()]


def key_of(run: HistoryRun, measurement: Measurement) -> Key:
    """The series to which a measurement belongs."""
    return Key(run.machine_key, run.setting_key, measurement.artifact, measurement.runtime, measurement.scenario)


def format_change(change: ChangePoint) -> str:
    """A change in percent of the time, with its interval."""
    ratio = change.ratio
    word = "slower" if change.is_slower else "faster"
    return f"{abs(ratio.value - 1):.1%} {word} ({ratio.low - 1:+.1%} to {ratio.high - 1:+.1%})"


def changed_versions(before: HistoryRun, after: HistoryRun) -> dict[str, list[str | None]]:
    """Package -> version before and after, where they differ; `commit` too."""
    old, new = ({**run.versions, "commit": run.commit[:12]} for run in (before, after))
    names = [name for name in dict.fromkeys([*new, *old]) if (old.get(name) or None) != (new.get(name) or None)]
    return {name: [old.get(name) or None, new.get(name) or None] for name in names}


def _describe_versions(before: HistoryRun, after: HistoryRun) -> str:
    """The versions that always count, and those that changed."""
    changed = changed_versions(before, after)
    texts = [f"{name} {after.versions[name]}" for name in _ALWAYS if name in after.versions and name not in changed]
    texts += [f"{name} {old or 'none'} -> {new or 'none'}" for name, (old, new) in changed.items()]
    return ", ".join(texts) if changed else ", ".join([*texts, "no version changed"])

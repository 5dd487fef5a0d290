"""A run of a history: what was measured, on which machine, with which versions; as pytest-benchmark stores it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, final

from pytest_benchmark import __version__ as pytest_benchmark_version
from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import get_commit_info

from ..regression.earlier_results import machine_of, setting_of
from ..results import Identity, Results
from ..statistics.estimate import Estimate
from ..statistics.ratio import mean_estimate
from ..timing import Timing

FORMAT = 1
OWN = "lmtool"
"""Key of lmtool's own facts in a file of pytest-benchmark."""


@final
@dataclass(frozen=True)
class Measurement:
    """A runtime in a scenario: the hash of its artifact, and the costs of its rounds in seconds (`Timing.costs`)."""

    runtime: str
    scenario: str
    artifact: str | None
    costs: Sequence[float]

    @property
    def cost(self) -> Estimate:
        """The geometric mean of the rounds, with an interval of 95 % over the rounds."""
        return mean_estimate(self.costs)


@final
@dataclass(frozen=True)
class HistoryRun:
    """A run.

    Attributes:
        number: Its number in the history; runs that ended at the same time may share one.
        name: Path of its file in the history.
        time: When it ended.
        commit: Commit of the repository in which it ran; empty outside one.
        versions: Package, `python`, `kernel` or `browser` -> version.
        machine: Facts that must be the same for runs to be comparable (`machine_of`).
        setting: What else must be the same (`setting_of`).
        measurements: What it measured.
    """

    number: int
    name: str
    time: datetime
    commit: str
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    setting: Mapping[str, Any]
    measurements: Sequence[Measurement]

    @cached_property
    def machine_key(self) -> str:
        """The machine as text."""
        return json.dumps(self.machine, sort_keys=True)

    @cached_property
    def setting_key(self) -> str:
        """The setting as text."""
        return json.dumps(self.setting, sort_keys=True)

    @property
    def day(self) -> str:
        """The day on which it ended, in UTC."""
        return f"{self.time:%Y-%m-%d}"

    @classmethod
    def from_json(cls, number: int, name: str, value: Mapping[str, Any]) -> "HistoryRun":
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, OverflowError: A part is missing, has another type or is
                out of range.
        """
        own = value[OWN]
        if own["format"] != FORMAT:
            raise ValueError(f"its format is {own['format']!r}, expected {FORMAT}")
        time = datetime.fromisoformat(value["datetime"])
        measurements = [Measurement(**each["extra_info"]) for each in value["benchmarks"]]
        for each in measurements:
            if not each.costs or not all(0 < cost < math.inf for cost in each.costs):
                raise ValueError("a benchmark has no costs, or an invalid one")
            if not isinstance(each.runtime, str) or not isinstance(each.scenario, str):
                raise TypeError("a runtime or a scenario is no text")
        if not isinstance(own["machine"].get("gpus") or [], list):
            raise TypeError("the GPUs are no list")
        versions = {str(package): str(version) for package, version in own["versions"].items()}
        return cls(
            number,
            name,
            time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC),
            str(own["commit"]),
            versions,
            dict(own["machine"]),
            dict(own["setting"]),
            measurements,
        )


def to_json(results: Results, now: datetime) -> dict[str, Any]:
    """Results in pytest-benchmark's format, with lmtool's own facts under `lmtool` and `extra_info`."""
    identity = json.loads(json.dumps(asdict(results.identity)))
    commit = get_commit_info()
    return {
        "machine_info": {**pytest_benchmark_generate_machine_info(), "node": ""},  # the host's name
        "commit_info": commit,
        "benchmarks": [_benchmark(timing, results.identity) for timing in results.timings],
        "datetime": now.isoformat(),
        "version": pytest_benchmark_version,
        OWN: {
            "format": FORMAT,
            "commit": commit["id"] if commit["time"] else "",
            "versions": _versions(results.identity.environment),
            "machine": machine_of(identity),
            "setting": setting_of(identity),
        },
    }


def _versions(environment: Mapping[str, Any]) -> dict[str, str]:
    own = {name: str(environment[name]) for name in ("python", "kernel", "browser") if environment.get(name)}
    return {**environment.get("packages", {}), **own, **(environment.get("node") or {})}


def _benchmark(timing: Timing, identity: Identity) -> dict[str, Any]:
    stats = Stats()
    for each in timing.rounds:
        stats.data += each.call_seconds
    artifact = identity.artifacts.get(timing.runtime)
    scenario = str(timing.scenario)
    name = f"{timing.runtime}[{scenario}]"
    return {
        "group": scenario,
        "name": name,
        "fullname": f"lmtool bench::{name}",
        "params": {"scenario": scenario},
        "param": scenario,
        "extra_info": asdict(Measurement(timing.runtime, scenario, artifact, timing.costs)),
        "options": {},
        "stats": {**stats.as_dict(), "iterations": 1},
    }

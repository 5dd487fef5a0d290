"""What a benchmark found: timings of every runtime in every scenario, and everything needed to judge them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from ..runtime.files import json_text, write_atomically
from .floors import Floor
from .scenario import Scenario

FORMAT = 2
UNSTABLE_SPREAD = 0.1


@final
@dataclass(frozen=True)
class Timing:
    """Times of one runtime in one scenario.

    Attributes:
        runtime: Its name.
        scenario: What it read.
        rounds: Seconds per call; one list for each interleaved round, which is a process of its own.
    """

    runtime: str
    scenario: Scenario
    rounds: Sequence[Sequence[float]]

    @property
    def medians(self) -> list[float]:
        """Median seconds of a call, round by round."""
        return [float(np.median(times)) for times in self.rounds]

    @property
    def seconds(self) -> float:
        """Median of the rounds' medians."""
        return float(np.median(self.medians))

    @property
    def tokens_per_second(self) -> float:
        """Tokens that a call reads, over its median time."""
        return self.scenario.tokens / self.seconds

    @property
    def spread(self) -> float:
        """(slowest - fastest round) / median."""
        return (max(self.medians) - min(self.medians)) / self.seconds

    def percentile(self, percent: float) -> float:
        """Seconds that this share of a round's calls did not exceed: median over the rounds."""
        return float(np.median([np.percentile(times, percent) for times in self.rounds]))

    def ratios(self, other: "Timing") -> list[float]:
        """How many times faster than `other`, round by round."""
        return [theirs / ours for ours, theirs in zip(self.medians, other.medians, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """The figures and every measured time, ready for JSON."""
        return {
            "runtime": self.runtime,
            "scenario": asdict(self.scenario),
            "tokens_per_second": self.tokens_per_second,
            "seconds": self.seconds,
            "spread": self.spread,
            **{f"p{percent}": self.percentile(percent) for percent in (50, 95, 99)},
            "rounds": [list(times) for times in self.rounds],
        }


@final
@dataclass(frozen=True)
class Identity:
    """What was measured, and where: results of others are not comparable.

    Attributes:
        provider: Execution provider of the artifacts.
        threads: Threads of one call.
        original: Hash of the original's weights.
        artifacts: Runtime name -> hash of the artifact that it runs.
        environment: Machine and versions.
    """

    provider: str
    threads: int
    original: str | None
    artifacts: Mapping[str, str]
    environment: Mapping[str, Any]


@final
@dataclass(frozen=True)
class Results:
    """A whole benchmark.

    Attributes:
        model: The artifact that was named, or the latest export.
        identity: What was measured, and where.
        baseline: Name of the runtime that the others are compared with.
        timings: One for each runtime and scenario.
        parity: Runtime name -> what its verification measured.
        placement: Runtime name -> provider -> operator -> number of nodes.
        floors: Runtime name -> what bounds its steps on this machine, where that was measured.
        failed: Runtime name -> by what it differs from the original, so that it was not timed.
        left_out: Runtime name -> why it was neither verified nor timed.
    """

    model: Path
    identity: Identity
    baseline: str
    timings: Sequence[Timing]
    parity: Mapping[str, Mapping[str, Any]]
    placement: Mapping[str, Mapping[str, Mapping[str, int]]]
    floors: Mapping[str, Floor]
    failed: Mapping[str, Sequence[str]]
    left_out: Mapping[str, str]

    @property
    def scenarios(self) -> list[Scenario]:
        """The scenarios, in order."""
        return list(dict.fromkeys(timing.scenario for timing in self.timings))

    @property
    def runtimes(self) -> list[str]:
        """The measured runtimes, in order."""
        return list(dict.fromkeys(timing.runtime for timing in self.timings))

    def timing(self, runtime: str, scenario: Scenario) -> Timing:
        """The timing of a runtime in a scenario."""
        return next(found for found in self.timings if (found.runtime, found.scenario) == (runtime, scenario))

    def speedup(self, runtime: str, scenario: Scenario) -> float:
        """How many times faster than the baseline: median over the interleaved rounds."""
        return float(np.median(self.timing(runtime, scenario).ratios(self.timing(self.baseline, scenario))))

    def floor(self, runtime: str, scenario: Scenario) -> float | None:
        """Seconds below which a call cannot go; None where that is not known, as for several tokens of a stream."""
        known = runtime in self.floors and scenario.time == 1
        return self.floors[runtime].seconds(scenario.batch_size) if known else None

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        speedups = {
            runtime: {str(scenario): self.speedup(runtime, scenario) for scenario in self.scenarios}
            for runtime in self.runtimes
        }
        return {
            "format": FORMAT,
            "model": self.model.name,
            **asdict(self.identity),
            "baseline": self.baseline,
            "speedups": speedups,
            "timings": [timing.to_json() for timing in self.timings],
            "parity": dict(self.parity),
            "placement": dict(self.placement),
            "floors": {runtime: asdict(floor) for runtime, floor in self.floors.items()},
            "failed": {runtime: list(reasons) for runtime, reasons in self.failed.items()},
            "left_out": dict(self.left_out),
        }

    def write(self, path: Path) -> None:
        """Write the JSON file.

        Raises:
            StorageError: It cannot be written.
        """
        write_atomically(path, f"{json_text(self.to_json(), indent=1)}\n".encode())

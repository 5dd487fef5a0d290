"""What a benchmark found: timings of every runtime in every scenario, and everything needed to judge them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

from ..runtime.files import json_text, write_atomically
from .floors import Floor
from .scenario import Scenario

FORMAT = 3
UNSTABLE_SPREAD = 0.1
SHORT_SECONDS = 1e-3
_PERCENTILES = (50, 95, 99)


@final
@dataclass(frozen=True)
class Round:
    """What one process measured.

    Attributes:
        seconds: Of every call, in the order in which they were made; nothing is left out.
        peak_bytes: Largest resident set of the process meanwhile; None where the system does not tell.
        requests_per_second: What a server answered; None where calls follow each other.
        problems: Why a server's run is not valid.
    """

    seconds: Sequence[float]
    peak_bytes: int | None = None
    requests_per_second: float | None = None
    problems: Sequence[str] = ()

    @property
    def median(self) -> float:
        """Median seconds of a call."""
        return float(np.median(self.seconds))

    @property
    def outliers(self) -> int:
        """Calls that took longer than the third quartile and one and a half times the quartiles' distance (Tukey)."""
        first, third = np.percentile(self.seconds, (25, 75))
        return int(np.sum(np.asarray(self.seconds) > third + 1.5 * (third - first)))

    def to_json(self) -> dict[str, Any]:
        """All of it, to the nanosecond."""
        return {**asdict(self), "seconds": [round(seconds, 9) for seconds in self.seconds]}


@final
@dataclass(frozen=True)
class Timing:
    """Times of one runtime in one scenario.

    Attributes:
        runtime: Its name.
        scenario: What it did.
        rounds: The interleaved rounds, each a process of its own.
    """

    runtime: str
    scenario: Scenario
    rounds: Sequence[Round]

    @property
    def medians(self) -> list[float]:
        """Median seconds of a call, round by round."""
        return [found.median for found in self.rounds]

    @property
    def seconds(self) -> float:
        """Median of the rounds' medians."""
        return float(np.median(self.medians))

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens of a call over its median time, or those that a server answered; None where no tokens are counted."""
        answered = [found.requests_per_second for found in self.rounds if found.requests_per_second is not None]
        if answered:
            return float(np.median(answered)) * self.scenario.tokens
        return self.scenario.tokens / self.seconds if self.scenario.tokens else None

    @property
    def spread(self) -> float:
        """(slowest - fastest round) / median."""
        return (max(self.medians) - min(self.medians)) / self.seconds

    @property
    def longest(self) -> float:
        """Seconds of the slowest call of all rounds."""
        return max(max(found.seconds) for found in self.rounds)

    @property
    def outliers(self) -> float:
        """Share of the calls that are outliers of their round."""
        return sum(found.outliers for found in self.rounds) / sum(len(found.seconds) for found in self.rounds)

    @property
    def peak_bytes(self) -> int | None:
        """Median over the rounds of the largest resident set; None where it is not known."""
        known = [found.peak_bytes for found in self.rounds if found.peak_bytes is not None]
        return int(np.median(known)) if known else None

    @property
    def problems(self) -> list[str]:
        """Why a server's rounds are not valid, each reason once."""
        return list(dict.fromkeys(problem for found in self.rounds for problem in found.problems))

    @property
    def is_unstable(self) -> bool:
        """Whether the rounds lie further apart than a tenth of their median."""
        return self.spread > UNSTABLE_SPREAD

    @property
    def is_short(self) -> bool:
        """Whether a call takes less than a millisecond, where clock and interrupts count."""
        return self.seconds < SHORT_SECONDS

    def percentile(self, percent: float) -> float:
        """Seconds that this share of a round's calls did not exceed: median over the rounds."""
        return float(np.median([np.percentile(found.seconds, percent) for found in self.rounds]))

    def ratios(self, other: "Timing") -> list[float]:
        """How many times faster than `other`, round by round."""
        return [theirs / ours for ours, theirs in zip(self.medians, other.medians, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """The figures and every measured time, ready for JSON."""
        return {
            "runtime": self.runtime,
            "scenario": str(self.scenario),
            "tokens_per_second": self.tokens_per_second,
            "seconds": self.seconds,
            "spread": self.spread,
            **{f"p{percent}": self.percentile(percent) for percent in _PERCENTILES},
            "longest": self.longest,
            "outliers": self.outliers,
            "peak_bytes": self.peak_bytes,
            "rounds": [found.to_json() for found in self.rounds],
        }


@final
@dataclass(frozen=True)
class Identity:
    """What was measured, and where: results of others are not comparable.

    Attributes:
        providers: Execution providers of the artifacts.
        threads: Threads of one call.
        original: Hash of the original's weights.
        artifacts: Runtime name -> hash of the artifact that it runs.
        environment: Machine and versions.
    """

    providers: Sequence[str]
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
        crashed: Runtime name -> how its process ended, so that none of its timings count.
        left_out: Runtime name -> why it was neither verified nor timed.
        load_after: The machine's load average when all was measured; that before it is in the environment.
    """

    model: Path
    identity: Identity
    baseline: str
    timings: Sequence[Timing]
    parity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    placement: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    floors: Mapping[str, Floor] = field(default_factory=dict)
    failed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    crashed: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    load_after: Sequence[float] | None = None

    @property
    def scenarios(self) -> list[Scenario]:
        """The scenarios, in order."""
        return list(dict.fromkeys(timing.scenario for timing in self.timings))

    @property
    def runtimes(self) -> list[str]:
        """The measured runtimes, in order."""
        return list(dict.fromkeys(timing.runtime for timing in self.timings))

    @property
    def is_sound(self) -> bool:
        """Whether everything that was tried passed its verification and lived to its end."""
        return not self.failed and not self.crashed

    def of(self, scenario: Scenario) -> list[Timing]:
        """The timings in a scenario, in the runtimes' order."""
        return [timing for timing in self.timings if timing.scenario == scenario]

    def timing(self, runtime: str, scenario: Scenario) -> Timing:
        """The timing of a runtime in a scenario.

        Raises:
            KeyError: It was not measured.
        """
        for found in self.timings:
            if (found.runtime, found.scenario) == (runtime, scenario):
                return found
        raise KeyError(f"{runtime}, {scenario}")

    def ratios(self, runtime: str, scenario: Scenario) -> list[float] | None:
        """How many times faster than the baseline, round by round; None where that was not measured."""
        base = [timing for timing in self.of(scenario) if timing.runtime == self.baseline]
        return self.timing(runtime, scenario).ratios(base[0]) if base else None

    def speedup(self, runtime: str, scenario: Scenario) -> float | None:
        """How many times faster than the baseline: median over the interleaved rounds."""
        ratios = self.ratios(runtime, scenario)
        return None if ratios is None else float(np.median(ratios))

    def floor(self, runtime: str, scenario: Scenario) -> float | None:
        """Seconds below which a call cannot go; None where that is not known, as for several tokens of a stream."""
        known = runtime in self.floors and scenario.kind in ("single-stream", "multi-stream")
        return self.floors[runtime].seconds(scenario.batch_size) if known else None

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        speedups: dict[str, dict[str, float | None]] = {runtime: {} for runtime in self.runtimes}
        for timing in self.timings:
            speedups[timing.runtime][str(timing.scenario)] = self.speedup(timing.runtime, timing.scenario)
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
            "crashed": dict(self.crashed),
            "left_out": dict(self.left_out),
            "load_after": self.load_after,
        }

    def write(self, path: Path) -> None:
        """Write the JSON file.

        Raises:
            StorageError: It cannot be written.
        """
        write_atomically(path, f"{json_text(self.to_json(), indent=1)}\n".encode())

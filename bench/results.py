"""Results of a benchmark: timings of every runtime in every scenario, parity, rooflines and failures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from ..runtime.io.files import json_text, write_atomically
from .mlperf.results import MlperfResults
from .profile.profiles import Profiles
from .roofline import Roofline
from .scenario import TOKEN, Scenario
from .statistics.decision import look_rounds
from .statistics.estimate import Estimate
from .sweep import Sweep
from .timing import Timing

FORMAT = 6


@final
@dataclass(frozen=True)
class Identity:
    """Artifacts, schedule and machine of a benchmark; only results with the same identity are comparable.

    Attributes:
        providers: Execution providers of the artifacts.
        threads: Threads of one call.
        schedule: Rounds, seconds, and the latency bound of a server.
        original: Hash of the PyTorch network's weights.
        artifacts: Runtime name -> hash of the artifact that it runs.
        environment: Machine and versions.
        calls: States and inputs of a network that is no language model (`StatefulNetwork.describe`); else empty.
    """

    providers: Sequence[str]
    threads: int
    schedule: Mapping[str, float]
    original: str | None
    artifacts: Mapping[str, str]
    environment: Mapping[str, Any]
    calls: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Results:
    """A whole benchmark.

    Attributes:
        model: The artifact that was named, or the one that was chosen.
        identity: Artifacts, schedule and machine.
        baseline: Name of the runtime that the others are compared with.
        timings: One for each runtime and scenario.
        unit: What a call reads of each stream: a token of a language model, a step of another network.
        training: Facts of the model's training (see `Artifact`).
        parity: Runtime name -> report of its verification.
        placement: Runtime name -> provider -> operator -> number of nodes.
        rooflines: Runtime name -> bound of its steps on this machine, where it was measured.
        profiles: Where the time of calls goes, if requested.
        failed: Runtime name -> differences from the reference; it is not timed.
        crashed: Runtime name -> how its process ended; its timings are dropped.
        skipped: Runtime name -> why it is neither verified nor timed.
        sweeps: Cost along axes, if requested.
        sweep_failures: Point of an axis -> how it failed its verification or crashed.
        mlperf: Runs of LoadGen by MLPerf's rules, if requested.
        load_after: The machine's load average after all measurements; the environment has the one before.
        earlier: The environment of `before`; empty without one.
        before: Timings of the same runtimes in that environment, of the same rounds.
    """

    model: Path
    identity: Identity
    baseline: str
    timings: Sequence[Timing]
    unit: str = TOKEN
    training: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    placement: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    rooflines: Mapping[str, Roofline] = field(default_factory=dict)
    profiles: Profiles | None = None
    failed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    crashed: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    sweeps: Sequence[Sweep] = ()
    sweep_failures: Mapping[str, str] = field(default_factory=dict)
    mlperf: MlperfResults | None = None
    load_after: Sequence[float] | None = None
    earlier: str = ""
    before: Sequence[Timing] = ()

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
        """Whether every candidate passed its verification and its audits, and none crashed."""
        profiles_crashed = self.profiles is not None and self.profiles.crashed
        audits_failed = self.mlperf is not None and not self.mlperf.is_sound
        return not (self.failed or self.crashed or self.sweep_failures or profiles_crashed or audits_failed)

    @property
    def looks(self) -> Sequence[int]:
        """Numbers of rounds after which the results were looked at, if they were not decided before."""
        rounds = int(self.identity.schedule["rounds"])
        return look_rounds(rounds, int(self.identity.schedule.get("max_rounds") or rounds))

    def of(self, scenario: Scenario) -> list[Timing]:
        """The timings in a scenario, in the runtimes' order."""
        return [timing for timing in self.timings if timing.scenario == scenario]

    def timing(self, runtime: str, scenario: Scenario) -> Timing:
        """The timing of a runtime in a scenario.

        Raises:
            KeyError: It was not measured.
        """
        for timing in self.timings:
            if (timing.runtime, timing.scenario) == (runtime, scenario):
                return timing
        raise KeyError(f"{runtime}, {scenario}")

    def speedup(self, runtime: str, scenario: Scenario) -> Estimate | None:
        """Speed-up over the baseline, paired by round; None if the baseline has no timing."""
        base = [timing for timing in self.of(scenario) if timing.runtime == self.baseline]
        return self.timing(runtime, scenario).speedup(base[0]) if base else None

    def roofline_seconds(self, runtime: str, scenario: Scenario) -> float | None:
        """Lower bound of a call in seconds; None where it is not known, as for several tokens of a stream."""
        known = runtime in self.rooflines and scenario.kind in ("single-stream", "multi-stream")
        return self.rooflines[runtime].seconds(scenario.batch_size) if known else None

    def to_json(self) -> dict[str, Any]:
        """The results, ready for JSON."""
        speedups: dict[str, dict[str, Any]] = {runtime: {} for runtime in self.runtimes}
        for timing in self.timings:
            speedup = self.speedup(timing.runtime, timing.scenario)
            speedups[timing.runtime][str(timing.scenario)] = None if speedup is None else speedup.to_json()
        return {
            "format": FORMAT,
            "model": self.model.name,
            **asdict(self.identity),
            "baseline": self.baseline,
            "unit": self.unit,
            "training": dict(self.training),
            "speedups": speedups,
            "timings": [timing.to_json() for timing in self.timings],
            "parity": dict(self.parity),
            "placement": dict(self.placement),
            "rooflines": {runtime: asdict(roofline) for runtime, roofline in self.rooflines.items()},
            "profiles": None if self.profiles is None else self.profiles.to_json(),
            "failed": {runtime: list(reasons) for runtime, reasons in self.failed.items()},
            "crashed": dict(self.crashed),
            "skipped": dict(self.skipped),
            "sweeps": [sweep.to_json() for sweep in self.sweeps],
            "sweep_failures": dict(self.sweep_failures),
            "mlperf": None if self.mlperf is None else self.mlperf.to_json(),
            "load_after": self.load_after,
            "earlier": self.earlier,
            "before": [timing.to_json() for timing in self.before],
        }

    def write(self, path: Path) -> None:
        """Write the JSON file.

        Raises:
            StorageError: It cannot be written.
        """
        write_atomically(path, f"{json_text(self.to_json(), indent=1)}\n".encode())

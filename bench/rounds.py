"""Runtimes that take turns: a round of each, then the next round, so that their ratios survive a machine's moods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from ..runtime.errors import OptionError
from .candidates import Candidate
from .roofline import Roofline
from .scenario import Scenario
from .timing import Round, Timing
from .verification import Progress
from .workers.launch import CrashError, RefusedError, RoundResult, run_server_job, run_timing_job


@final
@dataclass(frozen=True)
class Schedule:
    """How long everything is measured.

    Attributes:
        rounds: How often the runtimes take turns.
        seconds_per_scenario: Longest time of one scenario in one round.
        server_seconds: Time for which requests arrive at a server in one round.
        latency_bound: Seconds within which a server answers 99 of 100 requests, or its run is not valid.
    """

    rounds: int = 5
    seconds_per_scenario: float = 0.4
    server_seconds: float = 10.0
    latency_bound: float = 0.01

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: A number is below its minimum.
        """
        if self.rounds < 1:
            raise OptionError(f"rounds is {self.rounds}, expected 1 or more")
        for name in ("seconds_per_scenario", "server_seconds", "latency_bound"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} is {getattr(self, name)}, expected a positive number")


@final
@dataclass(frozen=True)
class TimingTask:
    """A runtime and what it is timed in."""

    candidate: Candidate
    scenarios: Sequence[Scenario]


@final
@dataclass
class Measurements:
    """What became of jobs that took turns; by runtime name.

    Attributes:
        rounds: What was timed, by runtime and scenario.
        rooflines: What bounds a step on this machine, at the best rates of all rounds.
        crashed: How those ended whose process did not come to its end.
    """

    rounds: dict[tuple[str, Scenario], list[Round]]
    rooflines: dict[str, Roofline] = field(default_factory=dict)
    crashed: dict[str, str] = field(default_factory=dict)

    @property
    def timings(self) -> list[Timing]:
        """Job by job; of those that crashed there are none."""
        found = ((name, scenario, rounds) for (name, scenario), rounds in self.rounds.items())
        return [Timing(*parts) for parts in found if parts[0] not in self.crashed]


def run_rounds(jobs: Mapping[str, TimingTask], schedule: Schedule, progress: Progress) -> Measurements:
    """Time all jobs, round by round; each round begins with another one.

    Args:
        jobs: By runtime name.
        schedule: How long.
        progress: Is told each step.
    """
    measurements = Measurements({(name, scenario): [] for name, job in jobs.items() for scenario in job.scenarios})
    for number in range(schedule.rounds):
        for name in _rotated(list(jobs), number):
            if name in measurements.crashed:
                continue
            progress(f"round {number + 1} of {schedule.rounds}: {name}")
            try:
                _one_round(name, jobs[name], schedule, measurements)
            except (CrashError, RefusedError) as error:
                measurements.crashed[name] = str(error)
    return measurements


def _one_round(name: str, job: TimingTask, schedule: Schedule, measurements: Measurements) -> None:
    calls = [scenario for scenario in job.scenarios if scenario.kind != "server"]
    found = run_timing_job(job.candidate, calls, schedule.seconds_per_scenario) if calls else RoundResult({})
    for scenario, measured in found.rounds.items():
        measurements.rounds[name, scenario].append(measured)
    if found.roofline is not None:
        measurements.rooflines[name] = found.roofline.best(measurements.rooflines.get(name))
    for scenario in job.scenarios:
        if scenario.kind == "server":
            served_round = run_server_job(job.candidate, scenario, schedule.server_seconds, schedule.latency_bound)
            measurements.rounds[name, scenario].append(served_round)


def _rotated(names: list[str], number: int) -> list[str]:
    start = number % max(len(names), 1)
    return names[start:] + names[:start]

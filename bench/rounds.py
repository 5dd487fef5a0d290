"""Interleaved rounds: every candidate once per round, so that ratios survive changes of the machine's speed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from ..runtime.errors import OptionError
from .candidates import Candidate
from .roofline import Roofline
from .scenario import Scenario
from .timing import Round, Timing
from .verification import Progress
from .workers.launch import CrashError, RefusedError, run_server_job, run_timing_job


@final
@dataclass(frozen=True)
class Schedule:
    """Number of rounds, durations, and the bound of a server's latency.

    Attributes:
        rounds: Number of rounds.
        seconds_per_scenario: Longest time of one scenario in one round.
        loadgen_seconds: How long LoadGen runs: a server in one round, and each run by MLPerf's rules at least.
        latency_bound: Seconds within which a server must answer 99 of 100 requests.

    Raises:
        OptionError: A number is below its minimum.
    """

    rounds: int = 5
    seconds_per_scenario: float = 0.4
    loadgen_seconds: float = 10.0
    latency_bound: float = 0.01

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise OptionError(f"rounds is {self.rounds}, expected 1 or more")
        for name in ("seconds_per_scenario", "loadgen_seconds", "latency_bound"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} is {getattr(self, name)}, expected a positive number")


@final
@dataclass(frozen=True)
class TimingTask:
    """A candidate and the scenarios that it is timed in."""

    candidate: Candidate
    scenarios: Sequence[Scenario]


@final
@dataclass
class Measurements:
    """The results of all rounds, by the tasks' names.

    Attributes:
        rounds: Rounds by name and scenario.
        rooflines: Bound of a step on this machine, at the best rates of all rounds.
        crashed: How the process ended, for tasks that did not finish.
    """

    rounds: dict[tuple[str, Scenario], list[Round]]
    rooflines: dict[str, Roofline] = field(default_factory=dict)
    crashed: dict[str, str] = field(default_factory=dict)

    @property
    def timings(self) -> list[Timing]:
        """The timings of the tasks that finished, task by task."""
        return [
            Timing(name, scenario, rounds)
            for (name, scenario), rounds in self.rounds.items()
            if name not in self.crashed
        ]


def run_rounds(tasks: Mapping[str, TimingTask], schedule: Schedule, progress: Progress) -> Measurements:
    """Time all tasks, round by round; each round starts with another task."""
    measurements = Measurements({(name, scenario): [] for name, task in tasks.items() for scenario in task.scenarios})
    for number in range(schedule.rounds):
        for name in _rotated(list(tasks), number):
            if name in measurements.crashed:
                continue
            progress(f"round {number + 1} of {schedule.rounds}: {name}")
            try:
                _run_round(name, tasks[name], schedule, measurements)
            except (CrashError, RefusedError) as error:
                measurements.crashed[name] = str(error)
    return measurements


def _run_round(name: str, task: TimingTask, schedule: Schedule, measurements: Measurements) -> None:
    calls = [scenario for scenario in task.scenarios if scenario.kind != "server"]
    if calls:
        result = run_timing_job(task.candidate, calls, schedule.seconds_per_scenario)
        for scenario, timed_round in result.rounds.items():
            measurements.rounds[name, scenario].append(timed_round)
        if result.roofline is not None:
            measurements.rooflines[name] = result.roofline.best(measurements.rooflines.get(name))
    for scenario in task.scenarios:
        if scenario.kind == "server":
            server_round = run_server_job(task.candidate, scenario, schedule.loadgen_seconds, schedule.latency_bound)
            measurements.rounds[name, scenario].append(server_round)


def _rotated(names: list[str], number: int) -> list[str]:
    """The names in the order of a round: round `number` starts `number` places later."""
    start = number % max(len(names), 1)
    return names[start:] + names[:start]

"""Runtimes that take turns: a round of each, then the next round, so that their ratios survive a machine's moods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from ..runtime.errors import OptionError
from .candidates import Contender
from .roofline import Floor
from .scenario import Scenario
from .timing import Round, Timing
from .verification import Say
from .workers.launch import CrashError, RefusedError, Timed, served, timed


@final
@dataclass(frozen=True)
class Pace:
    """How long everything is measured.

    Attributes:
        rounds: How often the runtimes take turns.
        seconds: Longest time of one scenario in one round.
        server_seconds: Time for which requests arrive at a server in one round.
        latency_bound: Seconds within which a server answers 99 of 100 requests, or its run is not valid.
    """

    rounds: int = 5
    seconds: float = 0.4
    server_seconds: float = 10.0
    latency_bound: float = 0.01

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: A number is below its minimum.
        """
        if self.rounds < 1:
            raise OptionError(f"rounds is {self.rounds}, expected 1 or more")
        for name in ("seconds", "server_seconds", "latency_bound"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} is {getattr(self, name)}, expected a positive number")


@final
@dataclass(frozen=True)
class Job:
    """A runtime and what it is timed in."""

    contender: Contender
    scenarios: Sequence[Scenario]


@final
@dataclass
class Taken:
    """What became of jobs that took turns; by runtime name.

    Attributes:
        rounds: What was timed, by runtime and scenario.
        floors: What bounds a step on this machine, at the best rates of all rounds.
        crashed: How those ended whose process did not come to its end.
    """

    rounds: dict[tuple[str, Scenario], list[Round]]
    floors: dict[str, Floor] = field(default_factory=dict)
    crashed: dict[str, str] = field(default_factory=dict)

    @property
    def timings(self) -> list[Timing]:
        """Job by job; of those that crashed there are none."""
        found = ((name, scenario, rounds) for (name, scenario), rounds in self.rounds.items())
        return [Timing(*parts) for parts in found if parts[0] not in self.crashed]


def take_turns(jobs: Mapping[str, Job], pace: Pace, say: Say) -> Taken:
    """Time all jobs, round by round; each round begins with another one.

    Args:
        jobs: By runtime name.
        pace: How long.
        say: Is told each step.
    """
    taken = Taken({(name, scenario): [] for name, job in jobs.items() for scenario in job.scenarios})
    for number in range(pace.rounds):
        for name in _rotated(list(jobs), number):
            if name in taken.crashed:
                continue
            say(f"round {number + 1} of {pace.rounds}: {name}")
            try:
                _one_round(name, jobs[name], pace, taken)
            except (CrashError, RefusedError) as error:
                taken.crashed[name] = str(error)
    return taken


def _one_round(name: str, job: Job, pace: Pace, taken: Taken) -> None:
    calls = [scenario for scenario in job.scenarios if scenario.kind != "server"]
    found = timed(job.contender, calls, pace.seconds) if calls else Timed({})
    for scenario, measured in found.rounds.items():
        taken.rounds[name, scenario].append(measured)
    if found.floor is not None:
        taken.floors[name] = found.floor.best(taken.floors.get(name))
    for scenario in job.scenarios:
        if scenario.kind == "server":
            served_round = served(job.contender, scenario, pace.server_seconds, pace.latency_bound)
            taken.rounds[name, scenario].append(served_round)


def _rotated(names: list[str], number: int) -> list[str]:
    start = number % max(len(names), 1)
    return names[start:] + names[:start]

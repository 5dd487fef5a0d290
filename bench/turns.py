"""Runtimes that take turns: a round of each, then the next round, so that their ratios survive a machine's moods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from ..runtime.errors import OptionError
from .contenders import Contender
from .processes import CrashError, RefusedError, served, timed
from .qualifying import Say
from .scenario import Scenario
from .timing import Round, Timing


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


def take_turns(jobs: Mapping[str, Job], pace: Pace, say: Say) -> tuple[list[Timing], dict[str, str]]:
    """Time all jobs, round by round; each round begins with another one.

    Args:
        jobs: By runtime name.
        pace: How long.
        say: Is told each step.

    Returns:
        The timings, job by job, and of the runtimes that crashed, which have none, how they ended.
    """
    rounds: dict[tuple[str, Scenario], list[Round]] = {
        (name, scenario): [] for name, job in jobs.items() for scenario in job.scenarios
    }
    crashed: dict[str, str] = {}
    for number in range(pace.rounds):
        for name in _rotated(list(jobs), number):
            if name in crashed:
                continue
            say(f"round {number + 1} of {pace.rounds}: {name}")
            try:
                for scenario, measured in _one_round(jobs[name], pace).items():
                    rounds[name, scenario].append(measured)
            except (CrashError, RefusedError) as error:
                crashed[name] = str(error)
    return [Timing(name, scenario, found) for (name, scenario), found in rounds.items() if name not in crashed], crashed


def _one_round(job: Job, pace: Pace) -> dict[Scenario, Round]:
    calls = [scenario for scenario in job.scenarios if scenario.kind != "server"]
    found = timed(job.contender, calls, pace.seconds) if calls else {}
    for scenario in job.scenarios:
        if scenario.kind == "server":
            found[scenario] = served(job.contender, scenario, pace.server_seconds, pace.latency_bound)
    return found


def _rotated(names: list[str], number: int) -> list[str]:
    start = number % max(len(names), 1)
    return names[start:] + names[:start]

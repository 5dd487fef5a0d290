"""Interleaved rounds: every candidate once per round, so that ratios survive changes of the machine's speed."""

import functools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from ..runtime.errors import OptionError, truncated
from .candidates import Candidate
from .roofline import Roofline
from .scenario import Scenario
from .statistics.decision import look_rounds
from .timing import Round, Timing
from .verification import Progress
from .workers.launch import ClockError, CrashError, RefusedError, run_server_job, run_timing_job


@final
@dataclass(frozen=True)
class Schedule:
    """Number of rounds, durations, and the bound of a server's latency.

    Attributes:
        rounds: Fewest rounds.
        seconds_per_scenario: Longest time of one scenario in one round.
        loadgen_seconds: How long LoadGen runs: a server in one round, and each run by MLPerf's rules at least.
        latency_bound: Seconds within which a server must answer 99 of 100 requests.
        max_rounds: Most rounds, while something is not decided; None for no more than `rounds`.

    Raises:
        OptionError: A number is below its minimum.
    """

    rounds: int = 5
    seconds_per_scenario: float = 0.4
    loadgen_seconds: float = 10.0
    latency_bound: float = 0.01
    max_rounds: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("rounds", 1), ("max_rounds", self.rounds)):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise OptionError(f"{name} is {getattr(self, name)}, expected {least} or more")
        for name in ("seconds_per_scenario", "loadgen_seconds", "latency_bound"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} is {getattr(self, name)}, expected a positive number")

    @property
    def looks(self) -> Sequence[int]:
        """Numbers of rounds after which the results are looked at."""
        return look_rounds(self.rounds, self.max_rounds or self.rounds)


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


Undecided = Callable[[Measurements], Sequence[str]]
"""Names what the measurements do not decide yet."""

_SHOWN = 200


def run_rounds(
    tasks: Mapping[str, TimingTask], schedule: Schedule, progress: Progress, undecided: Undecided = lambda _: ()
) -> Measurements:
    """Time all tasks, round by round, each round in another order (`turn_order`).

    At each look of the schedule `undecided` names what is not decided; the rounds end when nothing is named.
    """
    measurements = Measurements({(name, scenario): [] for name, task in tasks.items() for scenario in task.scenarios})
    done = 0
    for look in schedule.looks:
        for number in range(done, look):
            _run_turns(tasks, schedule, number, measurements, functools.partial(_announce, progress, number, look))
        done = look
        names = undecided(measurements) if look < schedule.looks[-1] else ()
        if not names:
            break
        progress(f"not decided after {look} rounds: {truncated('; '.join(names), _SHOWN)}")
    return measurements


def _announce(progress: Progress, number: int, look: int, name: str) -> None:
    progress(f"round {number + 1} of {look}: {name}")


def _run_turns(
    tasks: Mapping[str, TimingTask], schedule: Schedule, number: int, measurements: Measurements, progress: Progress
) -> None:
    """One turn of each task."""
    for name in turn_order(tasks, number):
        if name in measurements.crashed:
            continue
        progress(name)
        try:
            _repeated(functools.partial(_run_round, name, tasks[name], schedule, measurements), progress)
        except (ClockError, CrashError, RefusedError) as error:
            measurements.crashed[name] = str(error)


def _repeated(run: Callable[[], None], progress: Progress) -> None:
    """Run again, once, where the clock jumped."""
    try:
        run()
    except ClockError as error:
        progress(f"again: {error}")
        run()


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


def turn_order(names: Iterable[str], number: int) -> list[str]:
    """The names in the order of a round: at random, so that what the machine does in a rhythm favours none of them."""
    order = list(names)
    random.Random(number).shuffle(order)  # the same in every benchmark
    return order

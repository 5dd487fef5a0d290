"""A killed training loses at most one interval: `kill -9` at random moments, and before every system call of a save."""

import functools
import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from lmtool.model import Run
from support.faults import injection
from support.faults.strace import Fault, require_strace
from support.faults.system_calls import DETERMINISTIC, FaultTrials
from support.processes.commands import Command
from support.runs.uninterrupted import UninterruptedRun, wait_for_saves
from support.scale import Many, Tally

PROMISE = "A killed training loses at most one interval"
KILLED = -signal.SIGKILL
KILL = f"signal={signal.SIGKILL.name}"
LATER_RECORDS = (6, 4, 8)
"""Which writing of the log a training is killed before, of those that its first epoch has."""


def chain(uninterrupted: UninterruptedRun, folder: Path, draw: random.Random) -> tuple[int, Counter[str], list[str]]:
    """Kill a training and go on with it until it ends: kills, what was wrong after them, and what is at the end."""
    kills, wrong = 0, Counter[str]()
    while True:
        command = Command(*uninterrupted.command(folder)).go()
        wait_for_saves(command, Run(folder).latest, draw.randrange(-1, uninterrupted.steps_per_epoch))
        if command.runs_for(draw.uniform(0, 0.03)):
            command.signal(signal.SIGKILL)
        finished = command.finished()
        if finished.returncode != KILLED:
            assert finished.returncode == 0, finished.stderr
            return kills, wrong, uninterrupted.differences(folder)
        kills += 1
        wrong.update(uninterrupted.faults(folder).keys())


def test_kills_at_random_moments(tmp_path: Path, uninterrupted: UninterruptedRun, many: Many, tally: Tally) -> None:
    seed = random.randrange(1 << 32)
    draw, tried, wrong, ends = random.Random(seed), 0, Counter[str](), list[list[str]]()
    while tried < many(2, 120):
        kills, found, differences = chain(uninterrupted, tmp_path / f"run-{len(ends)}", draw)
        tried, wrong = tried + kills, wrong + found
        ends.append(differences)
    assert wrong == {}, f"seed {seed}"
    assert ends == [[]] * len(ends), f"seed {seed}"
    tally(
        PROMISE,
        tried=tried,
        what="kill -9 at random moments",
        unusable=wrong["unusable"],
        mixed=wrong["mixed"],
        lost_more=wrong["lost"],
        resumed_to_the_end=len(ends),
        of_other_bits=sum(map(bool, ends)),
    )


def last_save(uninterrupted: UninterruptedRun, folder: Path) -> FaultTrials:
    """A training that has but one step to do, then the end of its epoch and the test."""
    require_strace()
    begun = uninterrupted.stopped_after(folder / "begun", 2 * uninterrupted.steps_per_epoch - 1)
    return FaultTrials(begun, folder / "run", uninterrupted.command)


def test_kills_before_every_system_call_of_a_save(
    tmp_path: Path, uninterrupted: UninterruptedRun, many: Many, tally: Tally
) -> None:
    trials, seed = last_save(uninterrupted, tmp_path), random.randrange(1 << 32)
    draw, wrong, found = random.Random(seed), list[Fault](), Counter[str]()
    points = trials.fault_points([KILL])
    assert len(points) > 100
    for fault in (chosen := draw.sample(points, many(1, len(points)))):
        found["killed"] += trials.run_with(fault).finished.returncode == KILLED
        left = [*uninterrupted.faults(trials.folder)]
        assert trials.rerun().returncode == 0, f"{fault} {seed}"
        left += ["of_other_bits"] if uninterrupted.differences(trials.folder) else []
        found.update(left)
        wrong += [fault] if left else []
    assert wrong == [], f"{found} seed {seed}"
    assert found["killed"] == len(chosen)
    tally(
        PROMISE,
        tried=found["killed"],
        what="kill -9 before each system call of a save",
        unusable=found["unusable"],
        mixed=found["mixed"],
        lost_more=found["lost"],
        of_other_bits=found["of_other_bits"],
    )


def test_writing_in_place_would_lose_checkpoints(
    tmp_path: Path, uninterrupted: UninterruptedRun, many: Many, tally: Tally
) -> None:
    """Positive control: without temporary files and renames the same kills leave folders that nobody can use."""
    in_place, lost = functools.partial(injection.combine, DETERMINISTIC, injection.write_in_place), Counter[str]()
    trials = replace(
        last_save(uninterrupted, tmp_path), prepare=in_place, is_target=lambda path: path.endswith("safetensors")
    )
    for number in range(1, (tried := many(1, 3)) + 1):
        assert trials.run_with(Fault("write", number, KILL)).finished.returncode == KILLED
        lost.update(uninterrupted.faults(trials.folder).keys())
    assert lost["unusable"] == tried
    tally(PROMISE, tried=tried, control=f"files written in place: {lost['unusable']} of {tried} folders unusable")


def test_a_training_with_fewer_checkpoints_would_lose_more(
    tmp_path: Path, uninterrupted: UninterruptedRun, many: Many, tally: Tally
) -> None:
    """And the positive control: killed in its steps, one that saves every time has lost one at most, the other more."""
    require_strace()
    lost = {}
    for name, prepare in (
        ("always", DETERMINISTIC),
        ("seldom", functools.partial(injection.combine, DETERMINISTIC, injection.save_every_tenth_time)),
    ):
        trials = FaultTrials(
            tmp_path / "none", tmp_path / name, uninterrupted.command, prepare, lambda path: "metrics" in path
        )
        found = []
        for number in LATER_RECORDS[: (tried := many(1, len(LATER_RECORDS)))]:
            assert trials.run_with(Fault("rename", number, KILL)).finished.returncode == KILLED
            found.append(uninterrupted.faults(trials.folder))
        lost[name] = found
    assert lost["always"] == [{}] * tried
    assert [list(found) for found in lost["seldom"]] == [["lost"]] * tried
    what = ", ".join(found["lost"] for found in lost["seldom"])
    tally(PROMISE, tried=tried, control=f"a training that saves every tenth time: {what} lost")


@pytest.mark.parametrize(
    ("protection", "differs"),
    [(injection.random_state_not_restored, "the last weights"), (injection.append_to_old_log, "the log")],
    ids=["random state", "log"],
)
def test_state_that_is_not_restored_is_noticed(
    tmp_path: Path, uninterrupted: UninterruptedRun, protection: Callable[[], None], differs: str, tally: Tally
) -> None:
    """Positive control: the comparison with the training never killed notices what a resume forgets."""
    folder = uninterrupted.stopped_after(tmp_path / "run", uninterrupted.steps_per_epoch // 2)
    finished = Command(*uninterrupted.command(folder), prepare=protection).go().finished()
    assert finished.returncode == 0, finished.stderr
    found = uninterrupted.differences(folder)
    assert differs in found
    tally(PROMISE, tried=1, control=f"{protection.__name__.replace('_', ' ')}: {', '.join(found)} differ")

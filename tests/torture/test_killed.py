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
"""Writes of the log before which a training is killed, all within its first epoch."""


def kill_and_resume(
    uninterrupted: UninterruptedRun, folder: Path, draw: random.Random
) -> tuple[int, Counter[str], list[str]]:
    """Kill and resume a training until it ends; number of kills, faults after them, differences at the end."""
    kills, faults = 0, Counter[str]()
    while True:
        command = Command(*uninterrupted.command(folder)).go()
        wait_for_saves(command, Run(folder).latest, draw.randrange(-1, uninterrupted.steps_per_epoch))
        if command.runs_for(draw.uniform(0, 0.03)):
            command.signal(signal.SIGKILL)
        finished = command.finished()
        if finished.returncode != KILLED:
            assert finished.returncode == 0, finished.stderr
            return kills, faults, uninterrupted.differences(folder)
        kills += 1
        faults.update(uninterrupted.faults(folder).keys())


def test_kills_at_random_moments(tmp_path: Path, uninterrupted: UninterruptedRun, many: Many, tally: Tally) -> None:
    seed = random.randrange(1 << 32)
    draw, tried, faults, ends = random.Random(seed), 0, Counter[str](), list[list[str]]()
    while tried < many(2, 120):
        kills, new_faults, differences = kill_and_resume(uninterrupted, tmp_path / f"run-{len(ends)}", draw)
        tried, faults = tried + kills, faults + new_faults
        ends.append(differences)
    assert faults == {}, f"seed {seed}"
    assert ends == [[]] * len(ends), f"seed {seed}"
    tally(
        PROMISE,
        tried=tried,
        what="kill -9 at random moments",
        unusable=faults["unusable"],
        mixed=faults["mixed"],
        lost_more=faults["lost"],
        resumed_to_the_end=len(ends),
        of_other_bits=sum(map(bool, ends)),
    )


def last_save(uninterrupted: UninterruptedRun, folder: Path) -> FaultTrials:
    """Trials of a training's last step, the end of its epoch, and the test."""
    require_strace()
    folder_before = uninterrupted.stopped_after(folder / "before", 2 * uninterrupted.steps_per_epoch - 1)
    return FaultTrials(folder_before, folder / "run", uninterrupted.command)


def test_kills_before_every_system_call_of_a_save(
    tmp_path: Path, uninterrupted: UninterruptedRun, many: Many, tally: Tally
) -> None:
    trials, seed = last_save(uninterrupted, tmp_path), random.randrange(1 << 32)
    draw, faults, counts = random.Random(seed), list[Fault](), Counter[str]()
    points = trials.fault_points([KILL])
    assert len(points) > 100
    for fault in (chosen := draw.sample(points, many(1, len(points)))):
        counts["killed"] += trials.run_with(fault).finished.returncode == KILLED
        left = [*uninterrupted.faults(trials.folder)]
        assert trials.rerun().returncode == 0, f"{fault} {seed}"
        left += ["of_other_bits"] if uninterrupted.differences(trials.folder) else []
        counts.update(left)
        faults += [fault] if left else []
    assert faults == [], f"{counts} seed {seed}"
    assert counts["killed"] == len(chosen)
    tally(
        PROMISE,
        tried=counts["killed"],
        what="kill -9 before each system call of a save",
        unusable=counts["unusable"],
        mixed=counts["mixed"],
        lost_more=counts["lost"],
        of_other_bits=counts["of_other_bits"],
    )


def test_writing_in_place_would_lose_checkpoints(
    tmp_path: Path, uninterrupted: UninterruptedRun, many: Many, tally: Tally
) -> None:
    """Positive control: without temporary files and renames the same kills leave unusable folders."""
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
    """Saving at every step loses one step at most; the positive control, saving every tenth time, loses more."""
    require_strace()
    lost = {}
    for name, prepare in (
        ("always", DETERMINISTIC),
        ("seldom", functools.partial(injection.combine, DETERMINISTIC, injection.save_every_tenth_time)),
    ):
        trials = FaultTrials(
            tmp_path / "none", tmp_path / name, uninterrupted.command, prepare, lambda path: "metrics" in path
        )
        faults = []
        for number in LATER_RECORDS[: (tried := many(1, len(LATER_RECORDS)))]:
            assert trials.run_with(Fault("rename", number, KILL)).finished.returncode == KILLED
            faults.append(uninterrupted.faults(trials.folder))
        lost[name] = faults
    assert lost["always"] == [{}] * tried
    assert [list(faults) for faults in lost["seldom"]] == [["lost"]] * tried
    what = ", ".join(faults["lost"] for faults in lost["seldom"])
    tally(PROMISE, tried=tried, control=f"a training that saves every tenth time: {what} lost")


@pytest.mark.parametrize(
    ("protection", "differs"),
    [(injection.random_state_not_restored, "the last weights"), (injection.append_to_old_log, "the log")],
    ids=["random state", "log"],
)
def test_state_that_is_not_restored_is_noticed(
    tmp_path: Path, uninterrupted: UninterruptedRun, protection: Callable[[], None], differs: str, tally: Tally
) -> None:
    """Positive control: the comparison with the uninterrupted training shows what a resume does not restore."""
    folder = uninterrupted.stopped_after(tmp_path / "run", uninterrupted.steps_per_epoch // 2)
    finished = Command(*uninterrupted.command(folder), prepare=protection).go().finished()
    assert finished.returncode == 0, finished.stderr
    differences = uninterrupted.differences(folder)
    assert differs in differences
    tally(PROMISE, tried=1, control=f"{protection.__name__.replace('_', ' ')}: {', '.join(differences)} differ")

"""A killed training loses at most one interval: `kill -9` at random moments, and before every system call of a save."""

import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import sabotage
from commands import Command
from lmtool.model import Run
from strace import Fault, Traced, faults, require_strace, run_traced
from unstopped import Unstopped, wait_for_saves

PROMISE = "A killed training loses at most one interval"
KILLED = -signal.SIGKILL


def chain(unstopped: Unstopped, folder: Path, draw: random.Random) -> tuple[int, Counter[str], list[str]]:
    """Kill a training and go on with it until it ends: kills, what was wrong after them, and what is at the end."""
    kills, wrong = 0, Counter[str]()
    while True:
        command = Command(*unstopped.command(folder)).go()
        wait_for_saves(command, Run(folder).latest, draw.randrange(-1, unstopped.steps_per_epoch))
        if command.runs_for(draw.uniform(0, 0.03)):
            command.signal(signal.SIGKILL)
        finished = command.finished()
        if finished.returncode != KILLED:
            assert finished.returncode == 0, finished.stderr
            return kills, wrong, unstopped.differences(folder)
        kills += 1
        wrong.update(unstopped.wrong_with(folder).keys())


def test_kills_at_random_moments(
    tmp_path: Path, unstopped: Unstopped, many: Callable[[int, int], int], tally: Callable[..., None]
) -> None:
    seed = random.randrange(1 << 32)
    draw, tried, wrong, ends = random.Random(seed), 0, Counter[str](), list[list[str]]()
    while tried < many(2, 120):
        kills, found, differences = chain(unstopped, tmp_path / f"run-{len(ends)}", draw)
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
        of_other_bits=0,
    )


def last_save(unstopped: Unstopped, folder: Path) -> Path:
    """A training that has but one step to do, then the end of its epoch and the test."""
    return unstopped.stopped_after(folder, 2 * unstopped.steps_per_epoch - 1)


def aimed(unstopped: Unstopped, begun: Path, folder: Path, fault: Fault | None, watched: set[str]) -> Traced:
    """The last save, under strace, with the temporary files' names known."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(begun, folder)
    command = Command(*unstopped.command(folder), prepare=sabotage.known_names)
    return run_traced(command, folder.with_suffix(".log"), watched, fault)


def test_kills_before_every_system_call_of_a_save(
    tmp_path: Path, unstopped: Unstopped, many: Callable[[int, int], int], tally: Callable[..., None]
) -> None:
    require_strace()
    begun, folder = last_save(unstopped, tmp_path / "begun"), tmp_path / "run"
    whole = aimed(unstopped, begun, folder, None, set())
    watched = whole.paths(folder)
    points = faults(whole.counts(watched), [f"signal={signal.SIGKILL.name}"])
    assert len(points) > 100
    seed = random.randrange(1 << 32)
    chosen = random.Random(seed).sample(points, many(1, len(points)))
    wrong, tried = list[tuple[Fault, object]](), 0
    for fault in chosen:
        traced = aimed(unstopped, begun, folder, fault, watched)
        tried += traced.finished.returncode == KILLED
        found = unstopped.wrong_with(folder)
        resumed = Command(*unstopped.command(folder)).go().finished()
        if found or resumed.returncode != 0 or (found := unstopped.differences(folder)):
            wrong.append((fault, found or resumed.stderr))
    assert wrong == [], f"seed {seed}"
    assert tried == len(chosen)
    tally(
        PROMISE,
        tried=tried,
        what="kill -9 before each system call of a save",
        unusable=0,
        mixed=0,
        lost_more=0,
        of_other_bits=0,
    )


def test_writes_in_place_would_lose_checkpoints(
    tmp_path: Path, unstopped: Unstopped, many: Callable[[int, int], int], tally: Callable[..., None]
) -> None:
    """Positive control: without temporary files and renames the same kills leave folders that nobody can use."""
    require_strace()
    begun, folder = last_save(unstopped, tmp_path / "begun"), tmp_path / "run"
    watched = {str(folder / "checkpoints" / "latest.safetensors"), str(folder / "checkpoints" / "best.safetensors")}
    lost = Counter[str]()
    for number in range(1, (tried := many(1, 3)) + 1):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(begun, folder)
        command = Command(*unstopped.command(folder), prepare=sabotage.plain_writes)
        killed = run_traced(command, tmp_path / "log", watched, Fault("write", number, f"signal={signal.SIGKILL.name}"))
        assert killed.finished.returncode == KILLED
        lost.update(unstopped.wrong_with(folder).keys())
    assert lost["unusable"] == tried
    tally(PROMISE, tried=tried, control=f"files written in place: {lost['unusable']} of {tried} folders unusable")


@pytest.mark.parametrize(
    ("protection", "differs"),
    [(sabotage.forgotten_randomness, "the last weights"), (sabotage.kept_log, "the log")],
    ids=["random state", "log"],
)
def test_what_is_not_restored_shows(
    tmp_path: Path, unstopped: Unstopped, protection: Callable[[], None], differs: str, tally: Callable[..., None]
) -> None:
    """Positive control: the comparison with the training never killed notices what a resume forgets."""
    folder = unstopped.stopped_after(tmp_path / "run", unstopped.steps_per_epoch // 2)
    finished = Command(*unstopped.command(folder), prepare=protection).go().finished()
    assert finished.returncode == 0, finished.stderr
    found = unstopped.differences(folder)
    assert differs in found
    tally(PROMISE, tried=1, control=f"{protection.__name__.replace('_', ' ')}: {', '.join(found)} differ")

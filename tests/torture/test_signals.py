"""Signals end it cleanly: SIGTERM and SIGINT at random moments of trainings, saves, evaluations, exports, bench."""

import functools
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import pytest
from lmtool.model import Run
from lmtool.runtime import Artifact
from support.corpora import write_corpus
from support.faults import injection
from support.faults.strace import Fault, require_strace
from support.faults.system_calls import DETERMINISTIC, FaultTrials
from support.processes.commands import TRAIN, Command, Finished, count_by_exit_code, lmtool, unclear_stop
from support.processes.proc import alive, descendants
from support.runs.uninterrupted import UninterruptedRun, wait_for_saves
from support.scale import FULL, Many, Tally, torture_only

PROMISE = "Signals end it cleanly"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
LONGEST_SECONDS = 10
LONGEST_WAIT_SECONDS = 15
LONG_SENTENCES = 600
SENT = [f"signal={number.name}" for number in SIGNALS]
WENT_ON = "went on as if nothing had come"

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="how processes do is read in /proc")


@final
@dataclass(frozen=True)
class Asked:
    """A training that a signal was sent to.

    Attributes:
        finished: How it ended.
        seconds: How long that took.
        number: The signal.
        wrong: What should not be so.
    """

    finished: Finished
    seconds: float
    number: int
    wrong: list[str]


def codes_of(found: list[Asked]) -> Counter[int]:
    return Counter(asked.finished.returncode for asked in found)


def endings(found: list[Asked]) -> dict[str, object]:
    """How they ended and how long that took at most, for the table; none took too long."""
    longest = round(max(asked.seconds for asked in found), 2)
    assert longest < LONGEST_SECONDS
    return {"exit_codes": count_by_exit_code(codes_of(found)), "longest_seconds": longest}


def ended(command: Command, number: int) -> tuple[Finished, float]:
    """Send the signal; how the command ended, and after how many seconds."""
    started = time.monotonic()
    command.signal(number)
    command.thaw()
    return command.finished(60), time.monotonic() - started


def ask(command: Command, uninterrupted: UninterruptedRun, folder: Path, number: int) -> Asked | None:
    """Ask a training to stop that is held meanwhile, so that it is known how far it was; None where it had ended."""
    if not command.listening().freeze():
        return None
    before = uninterrupted.progress(folder)
    finished, seconds = ended(command, number)
    wrong = [*unclear_stop(finished, number), *uninterrupted.faults(folder).values()]
    if finished.returncode == 0 and not before.finished:
        wrong.append(WENT_ON)
    if (more := uninterrupted.progress(folder).steps - before.steps) > 1:
        wrong.append(f"{more} more steps")
    return Asked(finished, seconds, number, wrong)


def chain(uninterrupted: UninterruptedRun, folder: Path, draw: random.Random) -> Iterator[Asked]:
    """A training that is asked to stop again and again, and each time goes on where it was, to its end."""
    code = -1
    while code != 0:
        command = Command(*uninterrupted.command(folder)).go()
        wait_for_saves(command, Run(folder).latest, draw.randrange(-1, uninterrupted.steps_per_epoch))
        command.runs_for(draw.uniform(0.001, 0.03))
        asked = ask(command, uninterrupted, folder, draw.choice(SIGNALS))
        if asked is not None:
            yield asked
            code = asked.finished.returncode
            continue
        finished = command.finished()
        code = finished.returncode
        assert code == 0, finished.stderr


def test_trainings_stop_on_a_signal(tmp_path: Path, uninterrupted: UninterruptedRun, many: Many, tally: Tally) -> None:
    """Each ends within the step it is in, unless all was done; the last weights are those of one never stopped."""
    seed = random.randrange(1 << 32)
    draw, found, ends = random.Random(seed), list[Asked](), list[list[str]]()
    while len(found) < many(1, 60):
        folder = tmp_path / f"run-{len(ends)}"
        for asked in chain(uninterrupted, folder, draw):
            assert asked.wrong == [], f"seed {seed}"
            found.append(asked)
        ends.append(uninterrupted.differences(folder))
    assert ends == [[]] * len(ends), f"seed {seed}"
    tally(
        PROMISE,
        tried=len(found),
        what="train, at random moments",
        of_other_bits=sum(map(bool, ends)),
        **endings(found),
    )


def test_a_training_that_ignores_signals_is_noticed(
    tmp_path: Path, uninterrupted: UninterruptedRun, many: Many, tally: Tally
) -> None:
    """Positive control: it goes on to its end and exits with 0, as one that was done does."""
    noticed = 0
    for number in SIGNALS[: (tried := many(1, 2))]:
        folder = tmp_path / number.name
        command = Command(*uninterrupted.command(folder), prepare=injection.trainings_ignore_signals).go()
        wait_for_saves(command, Run(folder).latest, 2)
        asked = ask(command, uninterrupted, folder, number)
        assert asked is not None
        noticed += WENT_ON in asked.wrong
    assert noticed == tried
    tally(PROMISE, tried=tried, control=f"trainings that do not listen: {noticed} of {tried} noticed")


def saves(uninterrupted: UninterruptedRun, folder: Path) -> FaultTrials:
    """The last step of an epoch, and all that comes after it."""
    require_strace()
    begun = uninterrupted.stopped_after(folder / "begun", uninterrupted.steps_per_epoch - 1)
    return FaultTrials(begun, folder / "run", uninterrupted.command)


def ask_before(trials: FaultTrials, uninterrupted: UninterruptedRun, fault: Fault) -> Asked:
    """Ask a training to stop just before one of its system calls."""
    number = signal.Signals[fault.effect.partition("=")[2]]
    traced = trials.run_with(fault)
    then, finished = traced.since(number), traced.finished
    wrong = [*unclear_stop(finished, number), *uninterrupted.faults(trials.folder).values()]
    more = then.replaced(Run(trials.folder).latest)
    if finished.returncode == 0 and (more or not uninterrupted.progress(trials.folder).finished):
        wrong.append(WENT_ON)
    if more > 1:
        wrong.append(f"{more} more checkpoints")
    return Asked(finished, then.seconds, number, wrong)


def test_signals_before_every_system_call_of_a_save(
    tmp_path: Path, uninterrupted: UninterruptedRun, many: Many, tally: Tally
) -> None:
    trials, seed, found, wrong = (
        saves(uninterrupted, tmp_path),
        random.randrange(1 << 32),
        list[Asked](),
        list[object](),
    )
    for fault in random.Random(seed).sample(trials.fault_points(SENT), many(1, 30)):
        found.append(asked := ask_before(trials, uninterrupted, fault))
        again = trials.rerun()
        if asked.wrong or again.returncode != 0 or uninterrupted.differences(trials.folder):
            wrong.append((fault, asked, again.stderr))
    assert wrong == [], f"seed {seed}"
    tally(
        PROMISE,
        tried=len(found),
        what="train, each system call of its saves",
        of_other_bits=len(wrong),
        **endings(found),
    )


def test_a_checkpoint_that_ignores_signals_is_noticed(
    tmp_path: Path, uninterrupted: UninterruptedRun, tally: Tally
) -> None:
    """Positive control: the signal comes when the first of many checkpoints is put in place."""
    trials = saves(uninterrupted, tmp_path)
    latest = Run(trials.folder).latest.name
    deaf = functools.partial(injection.combine, DETERMINISTIC, injection.trainings_ignore_signals)
    trials = replace(trials, is_target=lambda path: latest in path, prepare=deaf)
    asked = ask_before(
        trials, uninterrupted, next(fault for fault in trials.fault_points(SENT) if "rename" in fault.call)
    )
    assert WENT_ON in asked.wrong
    tally(PROMISE, tried=1, control=f"a save that does not listen: {', '.join(asked.wrong)}")


EXPORT: list[object] = ["export", "--onnx"]
# Each with a part of its first second, in which it is stopped beside the other tests, and a count under `make torture`.
COMMANDS: dict[str, tuple[list[object], float, int]] = {
    "export": ([*EXPORT, "--opset", 18], 0.2, 20),
    "export --test-vectors": ([*EXPORT, "--precision", "int8", "--test-vectors"], 0.5, 10),
    "evaluate": (["evaluate"], 0.1, 20),
    "verify": (["verify"], 0.2, 10),
    "bench": (["bench", "--batch", "8", "--rounds", "1"], 1.0, 10),
}


def lasts(command: list[object], cwd: Path) -> float:
    """The seconds that a command takes which nothing stops, from when it listens."""
    begun = Command(*command, cwd=cwd).go().listening()
    started = time.monotonic()
    finished = begun.finished(600)
    assert finished.returncode == 0, finished.stderr
    return time.monotonic() - started


def stopped(begun: Command, seconds: float, number: int) -> Asked:
    """A command that is asked to stop after so long; none of its processes may live on."""
    begun.listening().runs_for(seconds)
    family = descendants(begun.pid)
    finished, took = ended(begun, number)
    return Asked(finished, took, number, [*unclear_stop(finished, number), *alive(family)])


def damage(place: Path, before: set[Path]) -> list[str]:
    """What a command left in the run folder that should not be there, or not so."""
    for path in place.glob("*.onnx"):
        Artifact.read(path)
    assert Run(place).trained()[1].facts["test_perplexity"]
    return [path.name for path in place.rglob("*.tmp") if path not in before]


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_stop_on_a_signal(
    tmp_path: Path, uninterrupted: UninterruptedRun, name: str, many: Many, tally: Tally
) -> None:
    """What was there before is there still, nothing is half written, and so many were stopped before they were done."""
    command, seconds, count = COMMANDS[name]
    seed, found = random.randrange(1 << 32), list[Asked]()
    draw, wrong = random.Random(seed), list[object]()
    shutil.copytree(uninterrupted.path, place := tmp_path / "runs" / "run")
    life = min(lasts(command, tmp_path), LONGEST_WAIT_SECONDS) if FULL else seconds
    while sum(asked.finished.returncode != 0 for asked in found) < many(1, count) and len(found) < 5 * many(1, count):
        before = set(place.rglob("*"))
        begun = Command(*command, cwd=tmp_path).go()
        found.append(asked := stopped(begun, draw.uniform(0.05, 0.9) * life, draw.choice(SIGNALS)))
        wrong += [*asked.wrong, *damage(place, before)]
        life *= 1.0 if asked.finished.returncode else 0.8  # the machine has become faster
    codes = codes_of(found)
    assert wrong == [], f"seed {seed}"
    assert codes.total() - codes[0] >= many(1, count), f"most ended as if nothing had come: {count_by_exit_code(codes)}"
    tally(PROMISE, tried=len(found), what=name, **endings(found))


def test_a_command_that_ignores_signals_is_noticed(
    tmp_path: Path, uninterrupted: UninterruptedRun, tally: Tally
) -> None:
    """Positive control: it ends with 0, however early it was asked."""
    shutil.copytree(uninterrupted.path, tmp_path / "runs" / "run")
    begun = Command("evaluate", cwd=tmp_path, prepare=injection.commands_ignore_sigterm).go()
    asked = stopped(begun, 0.05, signal.SIGTERM)
    assert asked.finished.returncode == 0
    tally(PROMISE, tried=1, control="an evaluation that does not listen: not among those that were stopped")


@torture_only
@pytest.mark.parametrize("split", ["valid", "test"])
def test_long_evaluations_stop_at_once(tmp_path: Path, split: str, tally: Tally) -> None:
    """And the positive control: an evaluation that does not look takes as long as its text."""
    data = write_corpus(tmp_path / "data", (35, 10, 10))
    (data / f"{split}.txt").write_text("the cat saw the fish\n" * LONG_SENTENCES)
    took = {}
    for name, looks in (("looks", True), ("deaf", False)):
        (place := tmp_path / name).mkdir()
        options = [*TRAIN, "--data", data, "--run", "run", "--epochs", 1]
        slow = functools.partial(injection.slow_evaluation, looks)
        command = Command(*options, cwd=place, prepare=slow).go()
        while not any(place.glob("evaluates-*")):
            assert command.runs_for(0.01)
        finished, took[name] = ended(command, signal.SIGTERM)
        assert finished.returncode == 143, finished.stderr
        resumed = lmtool("train", "--resume", "--run", "run", cwd=place)
        assert resumed.returncode == 0, resumed.stderr
    assert took["looks"] < LONGEST_SECONDS
    assert took["looks"] < 0.5 * took["deaf"]
    tally(PROMISE, tried=1, control=f"{split}: {took['looks']:.1f} s; without looking {took['deaf']:.1f} s")

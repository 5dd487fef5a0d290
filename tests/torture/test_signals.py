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

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are observed in /proc")


@final
@dataclass(frozen=True)
class StopOutcome:
    """The end of a command that received a signal.

    Attributes:
        finished: The finished command.
        seconds: Time from the signal to the end.
        number: The signal.
        problems: Faults of the command.
    """

    finished: Finished
    seconds: float
    number: int
    problems: list[str]


def exit_codes(outcomes: list[StopOutcome]) -> Counter[int]:
    return Counter(outcome.finished.returncode for outcome in outcomes)


def exit_figures(outcomes: list[StopOutcome]) -> dict[str, object]:
    """Exit codes and longest time, for the table."""
    longest = round(max(outcome.seconds for outcome in outcomes), 2)
    assert longest < LONGEST_SECONDS
    return {"exit_codes": count_by_exit_code(exit_codes(outcomes)), "longest_seconds": longest}


def signal_and_wait(command: Command, number: int) -> tuple[Finished, float]:
    """Send a signal; the finished command and the seconds until its end."""
    started = time.monotonic()
    command.signal(number)
    command.thaw()
    return command.finished(60), time.monotonic() - started


def stop_training(command: Command, uninterrupted: UninterruptedRun, folder: Path, number: int) -> StopOutcome | None:
    """Stop a training, frozen meanwhile so that its progress is known; None if it had ended."""
    if not command.listening().freeze():
        return None
    before = uninterrupted.progress(folder)
    finished, seconds = signal_and_wait(command, number)
    problems = [*unclear_stop(finished, number), *uninterrupted.faults(folder).values()]
    if finished.returncode == 0 and not before.finished:
        problems.append(WENT_ON)
    if (more := uninterrupted.progress(folder).steps - before.steps) > 1:
        problems.append(f"{more} more steps")
    return StopOutcome(finished, seconds, number, problems)


def stop_and_resume(uninterrupted: UninterruptedRun, folder: Path, draw: random.Random) -> Iterator[StopOutcome]:
    """Stop and resume a training until it ends."""
    code = -1
    while code != 0:
        command = Command(*uninterrupted.command(folder)).go()
        wait_for_saves(command, Run(folder).latest, draw.randrange(-1, uninterrupted.steps_per_epoch))
        command.runs_for(draw.uniform(0.001, 0.03))
        outcome = stop_training(command, uninterrupted, folder, draw.choice(SIGNALS))
        if outcome is not None:
            yield outcome
            code = outcome.finished.returncode
            continue
        finished = command.finished()
        code = finished.returncode
        assert code == 0, finished.stderr


def test_trainings_stop_on_a_signal(tmp_path: Path, uninterrupted: UninterruptedRun, many: Many, tally: Tally) -> None:
    """Each ends within its current step, and the last weights equal those of the uninterrupted training."""
    seed = random.randrange(1 << 32)
    draw, outcomes, ends = random.Random(seed), list[StopOutcome](), list[list[str]]()
    while len(outcomes) < many(1, 60):
        folder = tmp_path / f"run-{len(ends)}"
        for outcome in stop_and_resume(uninterrupted, folder, draw):
            assert outcome.problems == [], f"seed {seed}"
            outcomes.append(outcome)
        ends.append(uninterrupted.differences(folder))
    assert ends == [[]] * len(ends), f"seed {seed}"
    tally(
        PROMISE,
        tried=len(outcomes),
        what="train, at random moments",
        of_other_bits=sum(map(bool, ends)),
        **exit_figures(outcomes),
    )


def test_a_training_that_ignores_signals_is_noticed(
    tmp_path: Path, uninterrupted: UninterruptedRun, many: Many, tally: Tally
) -> None:
    """Positive control: it runs to its end and exits with 0."""
    noticed = 0
    for number in SIGNALS[: (tried := many(1, 2))]:
        folder = tmp_path / number.name
        command = Command(*uninterrupted.command(folder), prepare=injection.trainings_ignore_signals).go()
        wait_for_saves(command, Run(folder).latest, 2)
        outcome = stop_training(command, uninterrupted, folder, number)
        assert outcome is not None
        noticed += WENT_ON in outcome.problems
    assert noticed == tried
    tally(PROMISE, tried=tried, control=f"trainings that do not listen: {noticed} of {tried} noticed")


def last_step_of_epoch(uninterrupted: UninterruptedRun, folder: Path) -> FaultTrials:
    """Trials of the last step of an epoch and everything after it."""
    require_strace()
    begun = uninterrupted.stopped_after(folder / "begun", uninterrupted.steps_per_epoch - 1)
    return FaultTrials(begun, folder / "run", uninterrupted.command)


def stop_before_call(trials: FaultTrials, uninterrupted: UninterruptedRun, fault: Fault) -> StopOutcome:
    """Send a training a signal just before one of its system calls."""
    number = signal.Signals[fault.effect.partition("=")[2]]
    traced = trials.run_with(fault)
    then, finished = traced.since(number), traced.finished
    problems = [*unclear_stop(finished, number), *uninterrupted.faults(trials.folder).values()]
    more = then.replaced(Run(trials.folder).latest)
    if finished.returncode == 0 and (more or not uninterrupted.progress(trials.folder).finished):
        problems.append(WENT_ON)
    if more > 1:
        problems.append(f"{more} more checkpoints")
    return StopOutcome(finished, then.seconds, number, problems)


def test_signals_before_every_system_call_of_a_save(
    tmp_path: Path, uninterrupted: UninterruptedRun, many: Many, tally: Tally
) -> None:
    trials, seed, outcomes, problems = (
        last_step_of_epoch(uninterrupted, tmp_path),
        random.randrange(1 << 32),
        list[StopOutcome](),
        list[object](),
    )
    for fault in random.Random(seed).sample(trials.fault_points(SENT), many(1, 30)):
        outcomes.append(outcome := stop_before_call(trials, uninterrupted, fault))
        again = trials.rerun()
        if outcome.problems or again.returncode != 0 or uninterrupted.differences(trials.folder):
            problems.append((fault, outcome, again.stderr))
    assert problems == [], f"seed {seed}"
    tally(
        PROMISE,
        tried=len(outcomes),
        what="train, each system call of its saves",
        of_other_bits=len(problems),
        **exit_figures(outcomes),
    )


def test_a_checkpoint_that_ignores_signals_is_noticed(
    tmp_path: Path, uninterrupted: UninterruptedRun, tally: Tally
) -> None:
    """Positive control: the signal comes when the first of several checkpoints is renamed."""
    trials = last_step_of_epoch(uninterrupted, tmp_path)
    latest = Run(trials.folder).latest.name
    ignoring = functools.partial(injection.combine, DETERMINISTIC, injection.trainings_ignore_signals)
    trials = replace(trials, is_target=lambda path: latest in path, prepare=ignoring)
    outcome = stop_before_call(
        trials, uninterrupted, next(fault for fault in trials.fault_points(SENT) if "rename" in fault.call)
    )
    assert WENT_ON in outcome.problems
    tally(PROMISE, tried=1, control=f"a save that does not listen: {', '.join(outcome.problems)}")


EXPORT: list[object] = ["export", "--onnx"]
# Arguments; seconds within which it is stopped beside the other tests; number of stops under `make torture`.
COMMANDS: dict[str, tuple[list[object], float, int]] = {
    "export": ([*EXPORT, "--opset", 18], 0.2, 20),
    "export --test-vectors": ([*EXPORT, "--precision", "int8", "--test-vectors"], 0.5, 10),
    "evaluate": (["evaluate"], 0.1, 20),
    "verify": (["verify"], 0.2, 10),
    "bench": (["bench", "--batch", "8", "--rounds", "1"], 1.0, 10),
}


def uninterrupted_seconds(command: list[object], cwd: Path) -> float:
    """Seconds that a command takes without interruption, from when it handles signals."""
    running = Command(*command, cwd=cwd).go().listening()
    started = time.monotonic()
    finished = running.finished(600)
    assert finished.returncode == 0, finished.stderr
    return time.monotonic() - started


def stop_after(running: Command, seconds: float, number: int) -> StopOutcome:
    """Send a command a signal after some seconds; none of its processes may survive."""
    running.listening().runs_for(seconds)
    family = descendants(running.pid)
    finished, took = signal_and_wait(running, number)
    return StopOutcome(finished, took, number, [*unclear_stop(finished, number), *alive(family)])


def leftovers(folder: Path, before: set[Path]) -> list[str]:
    """New temporary files in a run folder, whose artifacts and checkpoint must load."""
    for path in folder.glob("*.onnx"):
        Artifact.read(path)
    assert Run(folder).trained()[1].facts["test_perplexity"]
    return [path.name for path in folder.rglob("*.tmp") if path not in before]


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_stop_on_a_signal(
    tmp_path: Path, uninterrupted: UninterruptedRun, name: str, many: Many, tally: Tally
) -> None:
    """Old files stay, nothing is half-written, and enough commands stop before their end."""
    command, seconds, count = COMMANDS[name]
    seed, outcomes = random.randrange(1 << 32), list[StopOutcome]()
    draw, problems = random.Random(seed), list[object]()
    shutil.copytree(uninterrupted.path, folder := tmp_path / "runs" / "run")
    life = min(uninterrupted_seconds(command, tmp_path), LONGEST_WAIT_SECONDS) if FULL else seconds
    count = many(1, count)
    while sum(outcome.finished.returncode != 0 for outcome in outcomes) < count and len(outcomes) < 5 * count:
        before = set(folder.rglob("*"))
        running = Command(*command, cwd=tmp_path).go()
        outcomes.append(outcome := stop_after(running, draw.uniform(0.05, 0.9) * life, draw.choice(SIGNALS)))
        problems += [*outcome.problems, *leftovers(folder, before)]
        life *= 1.0 if outcome.finished.returncode else 0.8  # the machine is faster now
    codes = exit_codes(outcomes)
    assert problems == [], f"seed {seed}"
    assert codes.total() - codes[0] >= count, f"most ended as if nothing had come: {count_by_exit_code(codes)}"
    tally(PROMISE, tried=len(outcomes), what=name, **exit_figures(outcomes))


def test_a_command_that_ignores_signals_is_noticed(
    tmp_path: Path, uninterrupted: UninterruptedRun, tally: Tally
) -> None:
    """Positive control: it exits with 0, however early the signal comes."""
    shutil.copytree(uninterrupted.path, tmp_path / "runs" / "run")
    running = Command("evaluate", cwd=tmp_path, prepare=injection.commands_ignore_sigterm).go()
    outcome = stop_after(running, 0.05, signal.SIGTERM)
    assert outcome.finished.returncode == 0
    tally(PROMISE, tried=1, control="an evaluation that does not listen: not among those that were stopped")


@torture_only
@pytest.mark.parametrize("split", ["valid", "test"])
def test_long_evaluations_stop_at_once(tmp_path: Path, split: str, tally: Tally) -> None:
    """With the positive control: an evaluation that does not check takes as long as its text."""
    data = write_corpus(tmp_path / "data", (35, 10, 10))
    (data / f"{split}.txt").write_text("the cat saw the fish\n" * LONG_SENTENCES)
    took = {}
    for name, looks in (("looks", True), ("deaf", False)):
        (folder := tmp_path / name).mkdir()
        options = [*TRAIN, "--data", data, "--run", "run", "--epochs", 1]
        slow = functools.partial(injection.slow_evaluation, looks)
        command = Command(*options, cwd=folder, prepare=slow).go()
        while not any(folder.glob("evaluates-*")):
            assert command.runs_for(0.01)
        finished, took[name] = signal_and_wait(command, signal.SIGTERM)
        assert finished.returncode == 143, finished.stderr
        resumed = lmtool("train", "--resume", "--run", "run", cwd=folder)
        assert resumed.returncode == 0, resumed.stderr
    assert took["looks"] < LONGEST_SECONDS
    assert took["looks"] < 0.5 * took["deaf"]
    tally(PROMISE, tried=1, control=f"{split}: {took['looks']:.1f} s; without looking {took['deaf']:.1f} s")

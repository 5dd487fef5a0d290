"""Signals end it cleanly: SIGTERM and SIGINT at random moments of trainings, saves, evaluations, exports, bench."""

import functools
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import sabotage
from commands import TRAIN, Command, Finished, counted, lmtool
from corpora import write_corpus
from lmtool.model import Run
from lmtool.runtime import Artifact
from strace import faults, require_strace, run_traced
from thoroughness import torture_only
from unstopped import Unstopped, wait_for_saves

PROMISE = "Signals end it cleanly"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
LONGEST_SECONDS = 10
LONG_SENTENCES = 600


def complaints(finished: Finished, number: int) -> list[str]:
    """What is wrong with how a command ended that a signal was sent to; it may have been done already."""
    found = [] if finished.returncode in (128 + number, 0) else [f"exit {finished.returncode} after {number}"]
    said = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    if "Traceback" in finished.stderr or "Exception ignored" in finished.stderr or len(said) > 1:
        found.append(finished.stderr)
    return found


def ended(command: Command, number: int) -> tuple[Finished, float]:
    """Send the signal; how the command ended, and after how many seconds."""
    started = time.monotonic()
    command.signal(number)
    return command.finished(60), time.monotonic() - started


def test_trainings_that_are_asked_to_stop(
    tmp_path: Path, unstopped: Unstopped, many: Callable[[int, int], int], tally: Callable[..., None]
) -> None:
    seed = random.randrange(1 << 32)
    draw, tried, longest, runs = random.Random(seed), 0, 0.0, 0
    while tried < many(1, 60):
        folder = tmp_path / f"run-{runs}"
        runs, code = runs + 1, -1
        while code != 0:
            command = Command(*unstopped.command(folder)).go()
            wait_for_saves(command, Run(folder).latest, draw.randrange(-1, unstopped.steps_per_epoch))
            if not command.runs_for(draw.uniform(0.001, 0.03)):
                code = command.finished().returncode
                continue
            finished, seconds = ended(command, number := draw.choice(SIGNALS))
            code, tried, longest = finished.returncode, tried + 1, max(longest, seconds)
            assert complaints(finished, number) == [], f"seed {seed}"
            assert unstopped.wrong_with(folder) == {}, f"seed {seed}"
        assert unstopped.differences(folder) == [], f"seed {seed}"
    assert longest < LONGEST_SECONDS
    tally(
        PROMISE,
        tried=tried,
        what="train, at random moments",
        wrong_exit=0,
        of_other_bits=0,
        longest_seconds=round(longest, 2),
    )


def test_signals_before_every_system_call_of_a_save(
    tmp_path: Path, unstopped: Unstopped, many: Callable[[int, int], int], tally: Callable[..., None]
) -> None:
    require_strace()
    begun, folder = tmp_path / "begun", tmp_path / "run"
    unstopped.stopped_after(begun, unstopped.steps_per_epoch - 1)
    seed, watched = random.randrange(1 << 32), set[str]()
    draw, chosen = random.Random(seed), [None]
    while chosen:
        fault = chosen.pop()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(begun, folder)
        command = Command(*unstopped.command(folder), prepare=sabotage.known_names)
        traced = run_traced(command, tmp_path / "log", watched, fault)
        if fault is None:
            watched = traced.paths(folder)
            points = faults(traced.counts(watched), [f"signal={number.name}" for number in SIGNALS])
            chosen = [*draw.sample(points, tried := many(1, 30))]
            continue
        assert complaints(traced.finished, signal.Signals[fault.effect.partition("=")[2]]) == [], f"{fault} {seed}"
        assert unstopped.wrong_with(folder) == {}, f"{fault} {seed}"
        again = lmtool(*unstopped.command(folder))
        assert again.returncode == 0, again.stderr
        assert unstopped.differences(folder) == [], f"{fault} {seed}"
    tally(PROMISE, tried=tried, what="train, each system call of its saves", wrong_exit=0, of_other_bits=0)


def name(command: list[object]) -> str:
    return " ".join(map(str, command))


COMMANDS: list[tuple[list[object], float, int]] = [
    (["export", "--onnx", "--opset", 18], 0.7, 20),
    (["export", "--onnx", "--precision", "int8", "--test-vectors"], 1.0, 10),
    (["evaluate"], 0.2, 20),
    (["verify"], 0.5, 10),
    (["bench", "--batch", "8", "--rounds", "1"], 6.0, 10),
]


@pytest.mark.parametrize(
    ("command", "seconds", "count"), COMMANDS, ids=[" ".join(map(str, c[0][:3])) for c in COMMANDS]
)
def test_commands_that_are_asked_to_stop(
    tmp_path: Path,
    unstopped: Unstopped,
    command: list[object],
    seconds: float,
    count: int,
    many: Callable[[int, int], int],
    tally: Callable[..., None],
) -> None:
    """What was there before is there still, nothing is half written, and no process of the command lives on."""
    seed = random.randrange(1 << 32)
    draw, codes, longest = random.Random(seed), Counter[int](), 0.0
    place = tmp_path / "runs" / "run"
    shutil.copytree(unstopped.path, place)
    for _ in range(many(1, count)):
        before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
        begun = Command(*command, cwd=tmp_path).go()
        begun.runs_for(draw.uniform(0.005, min(seconds, many(1, 60))))
        number = draw.choice(SIGNALS)
        family = descendants(begun.pid)
        finished, took = ended(begun, number)
        codes[finished.returncode], longest = codes[finished.returncode] + 1, max(longest, took)
        assert complaints(finished, number) == [], f"seed {seed}"
        assert alive(family) == [], f"seed {seed}"
        left = [path.name for path in place.rglob("*") if path.is_file() and path not in before]
        assert not [name for name in left if name.endswith(".tmp")], f"seed {seed}"
        for path in place.glob("*.onnx"):
            Artifact.read(path)
        assert Run(place).trained()[1].facts["test_perplexity"]
    assert longest < LONGEST_SECONDS
    tally(
        PROMISE, tried=codes.total(), what=name(command), exit_codes=counted(codes), longest_seconds=round(longest, 2)
    )


def alive(pids: list[int]) -> list[str]:
    """The commands of those processes that live on, after some time to end in."""
    deadline = time.monotonic() + 2
    while found := [command for pid in pids if (command := command_of(pid))]:
        if time.monotonic() > deadline:
            return found
        time.sleep(0.02)
    return []


def command_of(pid: int) -> str:
    """What a process runs; nothing where it has ended."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """The processes that this one started, theirs, and so on."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return children + [found for child in children for found in descendants(child)]


@torture_only
@pytest.mark.parametrize("split", ["valid", "test"])
def test_long_evaluations_end_at_once(tmp_path: Path, split: str, tally: Callable[..., None]) -> None:
    """And the positive control: an evaluation that does not look takes as long as its text."""
    data = write_corpus(tmp_path / "data", (35, 10, 10))
    (data / f"{split}.txt").write_text("the cat saw the fish\n" * LONG_SENTENCES)
    took = {}
    for name, looks in (("looks", True), ("deaf", False)):
        (place := tmp_path / name).mkdir()
        options = [*TRAIN, "--data", data, "--run", "run", "--epochs", 1]
        slow = functools.partial(sabotage.slow_evaluation, looks)
        command = Command(*options, cwd=place, prepare=slow).go()
        while not any(place.glob("evaluates-*")):
            assert command.runs_for(0.01)
        finished, took[name] = ended(command, signal.SIGTERM)
        assert finished.returncode == 143, finished.stderr
        resumed = lmtool("train", "--resume", "--run", "run", cwd=place)
        assert resumed.returncode == 0, resumed.stderr
    assert took["looks"] < 0.5 * took["deaf"]
    tally(PROMISE, tried=1, control=f"{split}: {took['looks']:.1f} s; without looking {took['deaf']:.1f} s")

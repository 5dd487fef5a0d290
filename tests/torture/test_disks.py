"""A failing disk loses nothing: each system call that writes fails, once or from then on, while commands save."""

import errno
import functools
import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import pytest
from lmtool.export.test_vectors.files import INDEX
from lmtool.model import Run
from lmtool.runtime import Artifact
from support.corpora import write_corpus
from support.faults import injection
from support.faults.strace import Fault, require_strace
from support.faults.system_calls import DETERMINISTIC, FaultTrials
from support.processes.commands import Finished, unclear_failure
from support.runs.uninterrupted import UninterruptedRun
from support.scale import FULL, Tally, torture_only

PROMISE = "A failing disk loses nothing"
EFFECTS = [f"error={errno.errorcode[code]}" for code in (errno.ENOSPC, errno.EIO)]
MOSTLY = 0.8

Outcomes = list[tuple[Fault, Finished, list[str]]]


@pytest.fixture(scope="module")
def started_run(uninterrupted: UninterruptedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose training has one step left, then the end of its epoch and the test; with an artifact."""
    require_strace()
    folder = tmp_path_factory.mktemp("started") / "run"
    uninterrupted.stopped_after(folder, 2 * uninterrupted.steps_per_epoch - 1)
    shutil.copy(uninterrupted.path / "model.onnx", folder)
    return folder


def run_with_faults(
    trials: FaultTrials, seed: int, faults: Callable[[Finished], list[str]], repeatable: bool = True
) -> Outcomes:
    """Let each call fail, once or from then on, then rerun without faults; the faults with their problems.

    A command that cannot run twice (not `repeatable`) is rerun only if it failed.
    """
    draw, outcomes = random.Random(seed), Outcomes()
    points = trials.fault_points(EFFECTS)
    for chosen in points if FULL else draw.sample(points, 1):
        fault = replace(chosen, lasting=draw.random() < MOSTLY)
        finished = trials.run_with(fault).finished
        problems = unclear_failure(finished) if finished.returncode else []
        problems += faults(finished)
        if finished.returncode or repeatable:
            again = trials.rerun()
            problems += [*([again.stderr] if again.returncode else []), *faults(again)]
        outcomes.append((fault, finished, problems))
    return outcomes


def figures(outcomes: Outcomes, seed: int) -> dict[str, int]:
    """Figures for the table; no fault may have caused a problem, and many must have failed."""
    assert [outcome for outcome in outcomes if outcome[2]] == [], f"seed {seed}"
    failed = sum(finished.returncode != 0 for _, finished, _ in outcomes)
    if len(outcomes) > 10:  # a single failed call may be repeated
        assert failed > len(outcomes) // 4, f"{failed} of {len(outcomes)} failed"
    unclear = sum(bool(unclear_failure(finished)) for _, finished, _ in outcomes if finished.returncode)
    lost = sum(bool(problems) for _, _, problems in outcomes)
    return {"failed": failed, "survived": len(outcomes) - failed, "lost": lost, "not_one_clear_line": unclear}


def changed_files(folder: Path, since: Path) -> dict[str, bytes]:
    """Files of a folder that are new or differ since another; temporary files and locks are left out."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if not name.endswith((".tmp", ".lock")) and not _same(path, since / name)
    }


def _same(path: Path, other: Path) -> bool:
    return other.exists() and path.read_bytes() == other.read_bytes()


def test_resumed_trainings_on_a_failing_disk(
    tmp_path: Path, uninterrupted: UninterruptedRun, started_run: Path, tally: Tally
) -> None:
    """Exit code 1, one clear line, checkpoints that load, and the same bits after a rerun; or full success."""
    trials, seed = FaultTrials(started_run, tmp_path / "run", uninterrupted.command), random.randrange(1 << 32)

    def faults(finished: Finished) -> list[str]:
        problems = [*uninterrupted.faults(trials.folder).values()]
        problems += [] if finished.returncode else uninterrupted.differences(trials.folder)
        same_artifact = _same(trials.folder / "model.onnx", started_run / "model.onnx")
        return problems + ([] if same_artifact else ["the artifact"])

    outcomes = run_with_faults(trials, seed, faults)
    tally(PROMISE, tried=len(outcomes), what="failing calls, train --resume", **figures(outcomes, seed))


@torture_only
def test_new_trainings_on_a_failing_disk(tmp_path: Path, uninterrupted: UninterruptedRun, tally: Tally) -> None:
    """A training that fails before its first checkpoint can be started again, or resumed."""
    require_strace()
    folder = tmp_path / "run"
    trials = FaultTrials(tmp_path / "none", folder, uninterrupted.command, until=Run(folder).latest)
    seed = random.randrange(1 << 32)
    outcomes = run_with_faults(
        trials, seed, lambda finished: [] if finished.returncode else uninterrupted.differences(trials.folder)
    )
    tally(PROMISE, tried=len(outcomes), what="failing calls, train", **figures(outcomes, seed))


def test_all_writing_calls_are_tested(tmp_path: Path, uninterrupted: UninterruptedRun, tally: Tally) -> None:
    """All system calls of a training that touch its files are tested here, or only read."""
    require_strace()
    traced = FaultTrials(tmp_path / "none", tmp_path / "run", uninterrupted.command).traced_completely()
    assert traced.finished.returncode == 0, traced.finished.stderr
    assert uninterrupted.differences(tmp_path / "run") == []
    counts = traced.counts({str(Run(tmp_path / "run").latest)})
    assert counts["rename"] + counts["renameat"] + counts["renameat2"] >= 2 * uninterrupted.steps_per_epoch
    others = traced.others(tmp_path / "run")
    assert others == {}
    what = "system calls of a training"
    tally(PROMISE, tried=len(traced.lines), what=what, writing_and_never_failed=others.total())


def test_an_untested_writing_call_is_noticed(
    tmp_path: Path, uninterrupted: UninterruptedRun, started_run: Path, tally: Tally
) -> None:
    """Positive control: each written file gets a time stamp, a call that is not tested."""
    stamped = functools.partial(injection.combine, DETERMINISTIC, injection.set_file_times)
    others = (
        FaultTrials(started_run, tmp_path / "run", uninterrupted.command, stamped)
        .traced_completely()
        .others(tmp_path / "run")
    )
    assert sum("utime" in call for call in others) == len(others) == 1
    tally(PROMISE, tried=1, control=f"other calls: {', '.join(others)} noticed")


@final
@dataclass(frozen=True)
class Saving:
    """A command that saves beside a training's checkpoints.

    Attributes:
        command: Its command line for a run folder; `texts` beside that is a corpus.
        makes: Some of the files that it must write in the run folder.
        only: The only files whose calls fail; none for all.
        repeatable: Whether it can run twice.
    """

    command: Callable[[Path], list[object]]
    makes: set[str]
    only: tuple[str, ...] = ()
    repeatable: bool = True


# Hundreds of test vector files are written the same way: test their index, and one file of each kind.
OF_VECTORS = (INDEX, "data.json", "test_data_set_0/input_0.pb")
SAVINGS = {
    "export": Saving(
        lambda run: ["export", "--onnx", "--opset", 18, "--run", run],
        {"model.onnx", "parity.fp32.json"},
    ),
    "export --precision int8": Saving(
        lambda run: ["export", "--onnx", "--precision", "int8", "--run", run],
        {"model.int8.onnx", "parity.int8.json"},
    ),
    "export --test-vectors": Saving(
        lambda run: ["export", "--onnx", "--opset", 18, "--test-vectors", "--run", run],
        {"model.onnx", INDEX},
        OF_VECTORS,
    ),
    "embeddings": Saving(lambda run: ["embeddings", "--words", 8, "--run", run], {"embeddings.png"}),
    "data prepare": Saving(
        lambda run: ["data", "prepare", run.parent / "texts", "--out", run / "prepared"],
        {"prepared/train.txt", "prepared/valid.txt", "prepared/test.txt"},
        repeatable=False,  # it overwrites nothing
    ),
}
TRIED = [name if name == "export" else pytest.param(name, marks=torture_only) for name in SAVINGS]


def savings(started_run: Path, folder: Path, name: str) -> FaultTrials:
    saving = SAVINGS[name]
    watched = {f"{folder / part}" for part in saving.only}
    watched |= {f"{path.parent}/.{path.name}.00000000.tmp" for path in map(Path, watched)}
    return FaultTrials(started_run, folder, saving.command, is_target=lambda path: not watched or path in watched)


def saving_problems(started_run: Path, folder: Path, new: Mapping[str, bytes], finished: Finished) -> list[str]:
    """Saved files are the old or the new ones, others are unchanged; after exit code 0 all are new."""
    now = changed_files(folder, started_run)
    if finished.returncode and INDEX in now and json.loads(now[INDEX])["sets"] == []:
        del now[INDEX]  # empty until all vectors are written
    for path in folder.glob("*.onnx"):
        Artifact.read(path)
    problems = [f"{name} is another file" for name in now if name in new and now[name] != new[name]]
    problems += [f"{name} has changed" for name in now if name not in new]
    problems += [
        f"{path} is gone" for path in started_run.rglob("*") if not (folder / path.relative_to(started_run)).exists()
    ]
    if finished.returncode == 0:
        problems += [f"{NOT_THERE}: {name}" for name in new if now.get(name) != new[name]]
    return problems


NOT_THERE = "exit 0 without a file that it should have written"


@pytest.mark.parametrize("name", TRIED)
def test_other_commands_on_a_failing_disk(tmp_path: Path, started_run: Path, name: str, tally: Tally) -> None:
    """Each file is the old or the new one, checkpoints are unchanged, and a rerun writes all files."""
    write_corpus(tmp_path / "texts")
    trials, seed = savings(started_run, tmp_path / "run", name), random.randrange(1 << 32)
    assert trials.undisturbed.finished.returncode == 0, trials.undisturbed.finished.stderr
    new = changed_files(trials.folder, started_run)
    assert SAVINGS[name].makes <= new.keys()

    def faults(finished: Finished) -> list[str]:
        return saving_problems(started_run, trials.folder, new, finished)

    outcomes = run_with_faults(trials, seed, faults, SAVINGS[name].repeatable)
    tally(PROMISE, tried=len(outcomes), what=f"failing calls, {name}", **figures(outcomes, seed))


def test_an_export_that_ignores_errors_is_noticed(tmp_path: Path, started_run: Path, tally: Tally) -> None:
    """Positive control: it exits with 0, and the old artifact is still there."""
    careless = functools.partial(injection.combine, DETERMINISTIC, injection.swallow_write_errors)
    trials = replace(savings(started_run, tmp_path / "run", "export"), prepare=careless)
    assert trials.undisturbed.finished.returncode == 0
    new = changed_files(trials.folder, started_run)
    finished = trials.run_with(Fault("write", 1, EFFECTS[0], lasting=True)).finished
    assert finished.returncode == 0
    noticed = [text for text in saving_problems(started_run, trials.folder, new, finished) if NOT_THERE in text]
    assert len(noticed) == len(new)
    tally(PROMISE, tried=1, control=f"errors swallowed by an export: {len(noticed)} of {len(new)} files missed")


def test_writing_in_place_would_lose_checkpoints(
    tmp_path: Path, uninterrupted: UninterruptedRun, started_run: Path, tally: Tally
) -> None:
    """Positive control: without temporary files and renames a failing write leaves half a checkpoint."""
    folder, effects = tmp_path / "run", EFFECTS if FULL else EFFECTS[:1]
    in_place = functools.partial(injection.combine, DETERMINISTIC, injection.write_in_place)
    trials = FaultTrials(
        started_run, folder, uninterrupted.command, in_place, lambda path: path.endswith(".safetensors")
    )
    lost = 0
    for effect in effects:
        assert trials.run_with(Fault("write", 1, effect, lasting=True)).finished.returncode == 1
        lost += "unusable" in uninterrupted.faults(folder)
    assert lost == len(effects)
    tally(PROMISE, tried=lost, control=f"files written in place: {lost} of {len(effects)} checkpoints lost")

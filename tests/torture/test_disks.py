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

Found = list[tuple[Fault, Finished, list[str]]]


@pytest.fixture(scope="module")
def begun(uninterrupted: UninterruptedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that has but one step to do, then the end of its epoch and the test; it has an artifact too."""
    require_strace()
    folder = tmp_path_factory.mktemp("begun") / "run"
    uninterrupted.stopped_after(folder, 2 * uninterrupted.steps_per_epoch - 1)
    shutil.copy(uninterrupted.path / "model.onnx", folder)
    return folder


def failing(trials: FaultTrials, seed: int, faults: Callable[[Finished], list[str]], repeatable: bool = True) -> Found:
    """Each of the calls fails, once or from then on, then the disk is well again: what was wrong in the end.

    What cannot be done twice (not `repeatable`) is tried again only where it failed.
    """
    draw, found = random.Random(seed), Found()
    points = trials.fault_points(EFFECTS)
    for chosen in points if FULL else draw.sample(points, 1):
        fault = replace(chosen, lasting=draw.random() < MOSTLY)
        finished = trials.run_with(fault).finished
        wrong = unclear_failure(finished) if finished.returncode else []
        wrong += faults(finished)
        if finished.returncode or repeatable:
            again = trials.rerun()
            wrong += [*([again.stderr] if again.returncode else []), *faults(again)]
        found.append((fault, finished, wrong))
    return found


def figures(found: Found, seed: int) -> dict[str, int]:
    """What the table says of them, none of which was wrong, and many of which did fail."""
    assert [each for each in found if each[2]] == [], f"seed {seed}"
    failed = sum(finished.returncode != 0 for _, finished, _ in found)
    if len(found) > 10:  # one call that fails once may be tried again
        assert failed > len(found) // 4, f"{failed} of {len(found)} failed"
    unclear = sum(bool(unclear_failure(finished)) for _, finished, _ in found if finished.returncode)
    lost = sum(bool(wrong) for _, _, wrong in found)
    return {"failed": failed, "survived": len(found) - failed, "lost": lost, "not_one_clear_line": unclear}


def changed(folder: Path, since: Path) -> dict[str, bytes]:
    """The files of a folder that are not in the other, or not so; what is temporary and what is locked left out."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if not name.endswith((".tmp", ".lock")) and not _same(path, since / name)
    }


def _same(path: Path, other: Path) -> bool:
    return other.exists() and path.read_bytes() == other.read_bytes()


def test_resumed_trainings_on_a_failing_disk(
    tmp_path: Path, uninterrupted: UninterruptedRun, begun: Path, tally: Tally
) -> None:
    """Exit 1, one clear line, checkpoints that load, and the same bits once the disk is well; or nothing was amiss."""
    trials, seed = FaultTrials(begun, tmp_path / "run", uninterrupted.command), random.randrange(1 << 32)

    def faults(finished: Finished) -> list[str]:
        wrong = [*uninterrupted.faults(trials.folder).values()]
        wrong += [] if finished.returncode else uninterrupted.differences(trials.folder)
        return wrong + (["the artifact"] if not _same(trials.folder / "model.onnx", begun / "model.onnx") else [])

    found = failing(trials, seed, faults)
    tally(PROMISE, tried=len(found), what="failing calls, train --resume", **figures(found, seed))


@torture_only
def test_new_trainings_on_a_failing_disk(tmp_path: Path, uninterrupted: UninterruptedRun, tally: Tally) -> None:
    """What fails before the first checkpoint can be begun again, or gone on with."""
    require_strace()
    folder = tmp_path / "run"
    trials = FaultTrials(tmp_path / "none", folder, uninterrupted.command, until=Run(folder).latest)
    seed = random.randrange(1 << 32)
    found = failing(
        trials, seed, lambda finished: [] if finished.returncode else uninterrupted.differences(trials.folder)
    )
    tally(PROMISE, tried=len(found), what="failing calls, train", **figures(found, seed))


def test_all_writing_calls_are_tested(tmp_path: Path, uninterrupted: UninterruptedRun, tally: Tally) -> None:
    """Of all system calls of a training, those that touch its files are ones that fail here, or ones that only read."""
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
    tmp_path: Path, uninterrupted: UninterruptedRun, begun: Path, tally: Tally
) -> None:
    """Positive control: each file that is written is given a time, which nothing here makes fail."""
    stamped = functools.partial(injection.combine, DETERMINISTIC, injection.set_file_times)
    others = (
        FaultTrials(begun, tmp_path / "run", uninterrupted.command, stamped)
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
        makes: Some of the files that it has to make or replace in the run folder.
        only: The only files whose calls fail; none for all.
        repeatable: Whether it does its work a second time.
    """

    command: Callable[[Path], list[object]]
    makes: set[str]
    only: tuple[str, ...] = ()
    repeatable: bool = True


# Vectors are hundreds of files in thirty folders, all written alike: their index, and one of each kind of file.
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


def savings(begun: Path, folder: Path, name: str) -> FaultTrials:
    saving = SAVINGS[name]
    watched = {f"{folder / part}" for part in saving.only}
    watched |= {f"{path.parent}/.{path.name}.00000000.tmp" for path in map(Path, watched)}
    return FaultTrials(begun, folder, saving.command, is_target=lambda path: not watched or path in watched)


def wrong_with_saving(begun: Path, folder: Path, new: Mapping[str, bytes], finished: Finished) -> list[str]:
    """What is saved is the old or the new file, others are untouched; after exit 0 all is new."""
    now = changed(folder, begun)
    if finished.returncode and INDEX in now and json.loads(now[INDEX])["sets"] == []:
        del now[INDEX]  # which says so until all vectors are written
    for path in folder.glob("*.onnx"):
        Artifact.read(path)
    wrong = [f"{name} is another file" for name in now if name in new and now[name] != new[name]]
    wrong += [f"{name} has changed" for name in now if name not in new]
    wrong += [f"{path} is gone" for path in begun.rglob("*") if not (folder / path.relative_to(begun)).exists()]
    if finished.returncode == 0:
        wrong += [f"{NOT_THERE}: {name}" for name in new if now.get(name) != new[name]]
    return wrong


NOT_THERE = "exit 0 without a file that it should have written"


@pytest.mark.parametrize("name", TRIED)
def test_other_commands_on_a_failing_disk(tmp_path: Path, begun: Path, name: str, tally: Tally) -> None:
    """Each file is the old one or the new one; checkpoints are not touched; once the disk is well all is new."""
    write_corpus(tmp_path / "texts")
    trials, seed = savings(begun, tmp_path / "run", name), random.randrange(1 << 32)
    assert trials.undisturbed.finished.returncode == 0, trials.undisturbed.finished.stderr
    new = changed(trials.folder, begun)
    assert SAVINGS[name].makes <= new.keys()

    def faults(finished: Finished) -> list[str]:
        return wrong_with_saving(begun, trials.folder, new, finished)

    found = failing(trials, seed, faults, SAVINGS[name].repeatable)
    tally(PROMISE, tried=len(found), what=f"failing calls, {name}", **figures(found, seed))


def test_an_export_that_ignores_errors_is_noticed(tmp_path: Path, begun: Path, tally: Tally) -> None:
    """Positive control: it ends with 0, and the old artifact is still there."""
    careless = functools.partial(injection.combine, DETERMINISTIC, injection.swallow_write_errors)
    trials = replace(savings(begun, tmp_path / "run", "export"), prepare=careless)
    assert trials.undisturbed.finished.returncode == 0
    new = changed(trials.folder, begun)
    finished = trials.run_with(Fault("write", 1, EFFECTS[0], lasting=True)).finished
    assert finished.returncode == 0
    noticed = [wrong for wrong in wrong_with_saving(begun, trials.folder, new, finished) if NOT_THERE in wrong]
    assert len(noticed) == len(new)
    tally(PROMISE, tried=1, control=f"errors swallowed by an export: {len(noticed)} of {len(new)} files missed")


def test_writing_in_place_would_lose_checkpoints(
    tmp_path: Path, uninterrupted: UninterruptedRun, begun: Path, tally: Tally
) -> None:
    """Positive control: without temporary files and renames a failing write leaves half a checkpoint."""
    folder, effects = tmp_path / "run", EFFECTS if FULL else EFFECTS[:1]
    in_place = functools.partial(injection.combine, DETERMINISTIC, injection.write_in_place)
    trials = FaultTrials(begun, folder, uninterrupted.command, in_place, lambda path: path.endswith(".safetensors"))
    lost = 0
    for effect in effects:
        assert trials.run_with(Fault("write", 1, effect, lasting=True)).finished.returncode == 1
        lost += "unusable" in uninterrupted.faults(folder)
    assert lost == len(effects)
    tally(PROMISE, tried=lost, control=f"files written in place: {lost} of {len(effects)} checkpoints lost")

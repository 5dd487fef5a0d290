"""A failing disk loses nothing: each system call that writes fails, once or from then on, while commands save."""

import errno
import functools
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sabotage
from commands import Command, lmtool
from lmtool.model import Run
from lmtool.runtime import Artifact
from strace import Fault, Traced, faults, require_strace, run_traced
from thoroughness import torture_only
from unstopped import Unstopped, complaint

EVERY = 10_000
PROMISE = "A failing disk loses nothing"
EFFECTS = [f"error={errno.errorcode[code]}" for code in (errno.ENOSPC, errno.EIO)]
MOSTLY = 0.8
AT_ONCE = functools.partial(sabotage.all_of, sabotage.known_names, sabotage.no_pauses)
IN_PLACE = functools.partial(sabotage.all_of, sabotage.plain_writes, sabotage.no_pauses)


@pytest.fixture(scope="module")
def begun(unstopped: Unstopped, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that has but one step to do, then the end of its epoch and the test; it has an artifact too."""
    require_strace()
    folder = tmp_path_factory.mktemp("begun") / "run"
    unstopped.stopped_after(folder, 2 * unstopped.steps_per_epoch - 1)
    shutil.copy(unstopped.path / "model.onnx", folder)
    return folder


def failing(
    begun: Path,
    folder: Path,
    arguments: Callable[[], list[object]],
    watched: set[str],
    fault: Fault | None,
    prepare: Callable[[], None] = AT_ONCE,
) -> Traced:
    """A command on a copy of `begun`, on a disk that fails."""
    shutil.rmtree(folder, ignore_errors=True)
    if begun.exists():
        shutil.copytree(begun, folder)
    return run_traced(Command(*arguments(), prepare=prepare), folder.with_suffix(".log"), watched, fault)


def chosen_faults(whole: Traced, watched: set[str], few: int, draw: random.Random) -> list[Fault]:
    """`few` of all calls, or all of them: each fails by one of the effects, once or from then on."""
    points = faults(whole.counts(watched), EFFECTS[:1])
    chosen = draw.sample(points, min(few, len(points)))
    return [replace(fault, effect=draw.choice(EFFECTS), lasting=draw.random() < MOSTLY) for fault in chosen]


def test_trainings_on_a_disk_that_fails(
    tmp_path: Path, unstopped: Unstopped, begun: Path, many: Callable[[int, int], int], tally: Callable[..., None]
) -> None:
    """Exit 1, one clear line, checkpoints that load, and the same bits once the disk is well; or nothing was amiss."""
    seed, folder, found = random.randrange(1 << 32), tmp_path / "run", Counter[str]()
    arguments = functools.partial(unstopped.command, folder)
    whole = failing(begun, folder, arguments, set(), None)
    watched, wrong = whole.paths(folder), list[tuple[Fault, object]]()
    for fault in chosen_faults(whole, watched, many(1, EVERY), random.Random(seed)):
        finished = failing(begun, folder, arguments, watched, fault).finished
        found["failed" if finished.returncode else "survived"] += 1
        complaints = complaint(finished) if finished.returncode else unstopped.differences(folder)
        complaints += [*unstopped.wrong_with(folder).values()]
        if (folder / "model.onnx").read_bytes() != (begun / "model.onnx").read_bytes():
            complaints.append("the artifact has changed")
        again = lmtool(*arguments())
        complaints += [again.stderr] if again.returncode else unstopped.differences(folder)
        if complaints:
            wrong.append((fault, complaints))
    assert wrong == [], f"seed {seed}"
    if found.total() > 10:
        assert found["failed"] > 0  # one call that fails once may be tried again
    tally(PROMISE, tried=found.total(), what="failing calls, train --resume", **found, lost=0, not_one_clear_line=0)


@torture_only
def test_trainings_that_begin_on_a_disk_that_fails(
    tmp_path: Path, unstopped: Unstopped, many: Callable[[int, int], int], tally: Callable[..., None]
) -> None:
    """What fails before the first checkpoint can be begun again, or gone on with."""
    require_strace()
    seed, folder, found = random.randrange(1 << 32), tmp_path / "run", Counter[str]()
    arguments = functools.partial(unstopped.command, folder)
    whole = failing(tmp_path / "none", folder, arguments, set(), None)
    names = ("vocabulary", "config", ".lock", "checkpoints", "run")
    watched = {path for path in whole.paths(folder) if any(name in Path(path).name for name in names)}
    watched -= {path for path in watched if "safetensors" in path}
    wrong = list[tuple[Fault, object]]()
    for fault in chosen_faults(whole, watched, many(1, EVERY), random.Random(seed)):
        finished = failing(tmp_path / "none", folder, arguments, watched, fault).finished
        found["failed" if finished.returncode else "survived"] += 1
        complaints = complaint(finished) if finished.returncode else []
        again = lmtool(*arguments())
        complaints += [again.stderr] if again.returncode else unstopped.differences(folder)
        if complaints:
            wrong.append((fault, complaints))
    assert wrong == [], f"seed {seed}"
    tally(PROMISE, tried=found.total(), what="failing calls, train", **found, lost=0, not_one_clear_line=0)


COMMANDS: list[tuple[str, list[object]]] = [
    ("export", ["export", "--onnx", "--opset", 18]),
    ("export --precision int8", ["export", "--onnx", "--precision", "int8"]),
    ("export --test-vectors", ["export", "--onnx", "--opset", 18, "--test-vectors"]),
]
TRIED = [COMMANDS[0], *(pytest.param(*command, marks=torture_only) for command in COMMANDS[1:])]


@pytest.mark.parametrize(("name", "command"), TRIED, ids=[name for name, _ in COMMANDS])
def test_exports_to_a_disk_that_fails(
    tmp_path: Path,
    begun: Path,
    name: str,
    command: list[object],
    many: Callable[[int, int], int],
    tally: Callable[..., None],
) -> None:
    """The artifact is the old one or the new one; checkpoints are not touched."""
    seed, folder, found = random.randrange(1 << 32), tmp_path / "run", Counter[str]()

    def arguments() -> list[object]:
        return [*command, "--run", folder]

    whole = failing(begun, folder, arguments, set(), None)
    watched, wrong = whole.paths(folder), list[tuple[Fault, object]]()
    artifacts = {path.name: path.read_bytes() for path in folder.glob("*.onnx")}
    checkpoints = {path: path.read_bytes() for path in (Run(begun).latest, Run(begun).best)}
    for fault in chosen_faults(whole, watched, many(1, EVERY), random.Random(seed)):
        finished = failing(begun, folder, arguments, watched, fault).finished
        found["failed" if finished.returncode else "survived"] += 1
        complaints = complaint(finished) if finished.returncode else []
        for path in folder.glob("*.onnx"):
            old = (begun / path.name).read_bytes() if (begun / path.name).exists() else b""
            if path.read_bytes() not in (old, artifacts[path.name]):
                complaints.append(f"{path.name} is another file")
            Artifact.read(path)
        if any((folder / path.relative_to(begun)).read_bytes() != data for path, data in checkpoints.items()):
            complaints.append("a checkpoint has changed")
        if complaints:
            wrong.append((fault, complaints))
    assert wrong == [], f"seed {seed}"
    tally(PROMISE, tried=found.total(), what=f"failing calls, {name}", **found, lost=0, not_one_clear_line=0)


def test_a_disk_that_fails_would_lose_what_is_written_in_place(
    tmp_path: Path, unstopped: Unstopped, begun: Path, many: Callable[[int, int], int], tally: Callable[..., None]
) -> None:
    """Positive control: without temporary files and renames a failing write leaves half a checkpoint."""
    folder, lost = tmp_path / "run", 0
    watched = {str(folder / "checkpoints" / f"{name}.safetensors") for name in ("latest", "best")}
    effects = EFFECTS[: many(1, len(EFFECTS))]
    for effect in effects:
        fault = Fault("write", 1, effect, lasting=True)
        arguments = functools.partial(unstopped.command, folder)
        assert failing(begun, folder, arguments, watched, fault, IN_PLACE).finished.returncode == 1
        lost += "unusable" in unstopped.wrong_with(folder)
    assert lost == len(effects)
    tally(PROMISE, tried=lost, control=f"files written in place: {lost} of {len(effects)} checkpoints lost")

"""Numbers stay numbers: NaN and infinity in files never become a result of a command."""

import math
import random
import re
import shutil
from pathlib import Path

import pytest
from lmtool.model import Checkpoint, Run
from lmtool.runtime import LmtoolError, Predictor
from support.faults import injection
from support.faults.non_finite import NON_FINITE, artifact_with, float_weights
from support.processes.commands import Finished, lmtool, unclear_failure
from support.scale import FULL, Many, Tally

PROMISE = "Numbers stay numbers"
_NON_FINITE = re.compile(r"\b(nan|inf|Infinity)\b", re.IGNORECASE)


COMMANDS = (
    ["score", "the cat"],
    ["score", "--json", "--per-token", "the cat"],
    ["suggest", "the"],
    ["generate", "the"],
    ["evaluate", "--data", "."],
    ["evaluate", "--data", ".", "--cache", "5"],
    ["verify"],
    ["info"],
    ["bench", "--batch", "8", "--rounds", "1"],
)


def prints_non_finite(finished: Finished) -> bool:
    """Whether a command exits with 0 and prints NaN or infinity."""
    return finished.returncode == 0 and bool(_NON_FINITE.search(finished.stdout))


def test_commands_report_non_finite_weights(
    tmp_path: Path,
    run: Run,
    few_sentences: Path,
    draw: random.Random,
    many: Many,
    tally: Tally,
) -> None:
    cases = [(command, value) for command in COMMANDS for value in NON_FINITE]
    shutil.copytree(run.path, place := tmp_path / "run")
    names = float_weights(run.artifact("fp32"))
    for command, value in (chosen := draw.sample(cases, many(2, len(cases)))):
        (place / "model.onnx").write_bytes(artifact_with(run.artifact("fp32"), draw.choice(names), value, draw))
        finished = lmtool(*command, "--model", place / "model.onnx", cwd=few_sentences)
        assert unclear_failure(finished) == [], command
        assert "holds numbers that are not finite" in finished.stderr, command
    for option in (precisions := ("int8", "fp32")[: many(1, 2)]):
        best = Checkpoint.read(Run(place).best)
        tensors = {name: tensor.clone() for name, tensor in best.tensors.items()}
        draw.choice(list(tensors.values())).view(-1)[0] = math.nan
        Checkpoint(tensors, best.facts).write(Run(place).best)
        finished = lmtool("export", "--onnx", "--precision", option, "--run", place)
        assert unclear_failure(finished) == []
        assert "holds numbers that are not finite" in finished.stderr
        shutil.copy(run.best, Run(place).best)
    tally(PROMISE, tried=len(chosen) + len(precisions), what="NaN or infinity in files of commands", nan_with_exit_0=0)


def test_commands_with_huge_weights_never_print_nan(
    tmp_path: Path,
    run: Run,
    overflowing: Path,
    few_sentences: Path,
    draw: random.Random,
    tally: Tally,
) -> None:
    """Products of the last layer's weights overflow."""
    shutil.copytree(run.path, place := tmp_path / "run")
    best = Checkpoint.read(run.best)
    tensors = {name: tensor * (3e38 if "projection.weight" in name else 1) for name, tensor in best.tensors.items()}
    Checkpoint(tensors, best.facts).write(Run(place).best)
    shutil.copy(overflowing, place / "model.onnx")
    commands = [[*command, "--model", place / "model.onnx"] for command in COMMANDS if command[0] not in ("info",)]
    commands += [["export", "--onnx", "--run", place], ["evaluate", "--run", place]]
    quick = [command for command in commands if command[0] != "bench"]  # it starts many processes
    for command in (chosen := commands if FULL else draw.sample(quick, 2)):
        finished = lmtool(*command, cwd=few_sentences)
        assert finished.returncode in (1, 3), (command, finished)
        assert "Traceback" not in finished.stderr, command
        assert not _NON_FINITE.search(finished.stdout.replace("infinite", "")) or finished.returncode == 3
    tally(PROMISE, tried=len(chosen), what="weights of 3e38 in files of commands", nan_with_exit_0=0)


def test_unchecked_commands_print_nan(tmp_path: Path, run: Run, draw: random.Random, tally: Tally) -> None:
    """Positive control."""
    path = tmp_path / "model.onnx"
    name = next(name for name in float_weights(run.artifact("fp32")) if "projection" in name)
    path.write_bytes(artifact_with(run.artifact("fp32"), name, math.nan, draw, 1))
    commands = [["score", "the cat"], ["suggest", "the"]]
    score, suggest = (lmtool(*command, "--model", path, prepare=injection.skip_finite_checks) for command in commands)
    assert prints_non_finite(score), score
    assert prints_non_finite(suggest) or "outside the vocabulary" in suggest.stderr  # NaN has any place in an order
    tally(PROMISE, tried=2, control="nothing checked: score prints nan with exit 0, suggest that or a token of no word")


def test_a_refused_score_prints_nothing(tmp_path: Path, run: Run, draw: random.Random) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(artifact_with(run.artifact("fp32"), float_weights(run.artifact("fp32"))[0], math.nan, draw))
    finished = lmtool("score", "--json", "the cat", "--model", path)
    assert (finished.returncode, finished.stdout) == (1, "")
    with pytest.raises(LmtoolError):
        Predictor.load(path)

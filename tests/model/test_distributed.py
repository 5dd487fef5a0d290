"""Data-parallel training: started by torchrun as a user starts it, and its errors."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lmtool.model import Checkpoint, Run
from support.processes.commands import lmtool
from support.processes.ranks import run_ranks
from support.runs.settings import SETTINGS

BOUND = 1e-5
"""Largest relative difference of a loss or a perplexity between one process and two, whose sums differ in order."""


def command(data: Path, path: Path, *more: str) -> list[str]:
    words = ["train", "--preset", "ptb-200", "--data", str(data), "--run", str(path), "--threads", "1", "--json"]
    for key, value in {**SETTINGS, "precision": "fp32", "optimizer": "sgd", "learning_rate": "0.5"}.items():
        words += ["--set", f"{key}={value}"]
    return [*words, *more]


def torchrun(processes: int, *words: str) -> subprocess.CompletedProcess[str]:
    """As a user starts it."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "lmtool.cli"]
    # torchrun reads `--run` as an abbreviation of its own `--run-path`, unless `--` precedes it.
    return subprocess.run([sys.executable, *launcher, "--", *words], capture_output=True, text=True, timeout=240)


def history(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Run(path).metrics.read_text().splitlines()]


def test_two_processes_train_like_one(tmp_path: Path, corpus_folder: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    trained = lmtool(*command(corpus_folder, one)), torchrun(2, *command(corpus_folder, two))
    for finished, path in zip(trained, (one, two), strict=True):
        assert finished.returncode == 0, finished.stderr
        assert json.loads(finished.stdout)["run"] == str(path)  # one object, from one process
        assert "Warning" not in finished.stderr
        assert finished.stderr.count(" training tokens, ") == 1  # from one process
    assert len(history(one)) == len(history(two)) > 40
    for alone, together in zip(history(one), history(two), strict=True):
        assert together["perplexity"] == pytest.approx(alone["perplexity"], rel=BOUND)
        assert together["kind"] == alone["kind"]
    settings = json.loads((two / "config.json").read_text())
    assert settings["environment"]["processes"] == 2
    carried = Checkpoint.read(Run(two).latest).group("carried")
    assert {len(tensor) for tensor in carried.values()} == {4}  # the rows of both

    resumed = lmtool(*command(corpus_folder, two, "--resume"))
    assert resumed.returncode == 1
    assert "is of 2 processes, this training has 1; resume with as many processes" in resumed.stderr


def test_processes_draw_their_own_tokens_for_a_sampled_softmax(tmp_path: Path, corpus_folder: Path) -> None:
    full, sampled = tmp_path / "full", tmp_path / "sampled"
    alone = lmtool(*command(corpus_folder, full))
    together = torchrun(2, *command(corpus_folder, sampled, "--set", "sampled_softmax=18"))
    for finished in (alone, together):
        assert finished.returncode == 0, finished.stderr
    first, second = (Checkpoint.read(Run(sampled).latest).group(f"random.{rank}")["cpu"] for rank in range(2))
    assert not first.equal(second)
    assert history(sampled)[-1]["perplexity"] == pytest.approx(history(full)[-1]["perplexity"], rel=0.03)
    assert history(sampled)[-1]["perplexity"] != history(full)[-1]["perplexity"]


def refusal(finished: list[subprocess.CompletedProcess[str]]) -> str:
    """The error of all processes: one message of each, and no traceback."""
    assert 0 not in [each.returncode for each in finished]
    (message,) = {tuple(line for line in each.stderr.splitlines() if "error: " in line) for each in finished}
    assert not [each.stderr for each in finished if "Traceback" in each.stderr]
    (line,) = message
    return line


def test_an_error_of_the_first_process_is_raised_on_all(tmp_path: Path, corpus_folder: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    assert "holds a run already" in refusal(run_ranks(2, *command(corpus_folder, tmp_path / "run")))


def test_an_error_of_every_process_is_one_message(tmp_path: Path, corpus_folder: Path) -> None:
    line = refusal(run_ranks(2, *command(corpus_folder, tmp_path / "run", "--set", "batch_size=5")))
    assert "batch_size 5 cannot be shared evenly by 2 processes; try --set batch_size=6" in line
    assert not (tmp_path / "run").exists()

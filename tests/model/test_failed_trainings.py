"""A training that went wrong says so at its end, at its export and in its evaluation."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from lmtool.cli.progress import ProgressBar
from lmtool.export import export_run
from lmtool.model import Run, TrainOptions, TrainResult, evaluate_run, run_training
from lmtool.runtime.artifact.artifact import Artifact
from lmtool.runtime.artifact.summary import summarize, training_warning
from lmtool.runtime.score import format_perplexity
from support.processes.commands import lmtool
from support.runs.reporters import RecordingReporter
from support.runs.settings import SETTINGS

WRECKED = {**SETTINGS, "epochs": "1", "optimizer": "sgd", "learning_rate": "100"}
WARNING = "worse than word frequencies alone"


@pytest.fixture(scope="module")
def wreck(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    options = TrainOptions("ptb-200", str(corpus_folder), tmp_path_factory.mktemp("w") / "run", settings=WRECKED)
    return run_training(dataclasses.replace(options, threads=1), RecordingReporter())


def test_a_wrecked_network_is_named_everywhere(wreck: TrainResult) -> None:
    assert wreck.test_perplexity > 1e6
    assert wreck.has_failed
    assert WARNING in wreck.warning
    assert isinstance(wreck.to_json()["test_perplexity"], float)
    evaluation = evaluate_run(wreck.run, None, "test", 1)
    assert WARNING in evaluation.warning
    assert "e+" in evaluation.format()
    summary = Run(wreck.run).summary().format()
    assert WARNING in summary
    assert max(len(number) for number in summary.split() if number.replace(".", "").isdigit()) < 25


def test_an_export_of_a_wrecked_network_warns(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert export_run(run, out=tmp_path / "good.onnx").warning == ""
    wrong = {**run.training_facts(run.trained()[1]), "unigram_perplexity": 1.5}
    monkeypatch.setattr(Run, "training_facts", lambda *_: wrong)
    done = export_run(run, out=tmp_path / "wreck.onnx")
    assert WARNING in done.warning
    assert WARNING in summarize(Artifact.read(done.path), done.path).format()


def test_the_command_exits_with_3(tmp_path: Path, corpus_folder: Path) -> None:
    settings = [argument for key, value in WRECKED.items() for argument in ("--set", f"{key}={value}")]
    command = ["train", "--preset", "ptb-200", "--data", corpus_folder, "--run", tmp_path / "run", "--threads", 1]
    finished = lmtool(*command, *settings)
    assert finished.returncode == 3
    assert WARNING in finished.stderr
    assert "error: the training went wrong: guessing evenly among its" in finished.stderr
    assert max(map(len, (finished.stdout + finished.stderr).splitlines())) < 300
    assert Run(tmp_path / "run").best.exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [(65.444, "65.44"), (999_999.4, "999999.40"), (1e6, "1.00e+06"), (3.2e293, "3.20e+293"), (float("inf"), "inf")],
)
def test_perplexities_as_text(value: float, text: str) -> None:
    assert format_perplexity(value) == text
    for kind in ("valid", "test"):
        record = {"kind": kind, "epoch": 1, "perplexity": value, "bits_per_byte": 1.5, "seconds": 1.0}
        assert f"perplexity {text}  " in f"{ProgressBar()._line(record)}  ".replace(" (", "  (")


@pytest.mark.parametrize(
    "training", [{}, {"test_perplexity": 3.0, "unigram_perplexity": None}, {"test_perplexity": "x" * 9}]
)
def test_unknown_facts_give_no_warning(training: dict[str, Any]) -> None:
    assert training_warning(training) == ""
    assert WARNING in training_warning({"test_perplexity": 3.0, "unigram_perplexity": 2.0})


@pytest.mark.parametrize(("factor", "failed"), [(1.0001, False), (1.02, True), (float("nan"), True)])
def test_a_network_that_is_as_good_as_guessing_has_not_failed(wreck: TrainResult, factor: float, failed: bool) -> None:
    guessed = wreck.vocabulary_size * factor
    result = dataclasses.replace(wreck, test_perplexity=guessed, unigram_perplexity=float(wreck.vocabulary_size))
    assert (result.has_failed, bool(result.warning)) == (failed, failed)

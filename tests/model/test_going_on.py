"""Epochs that adapt to the text, more epochs for a finished run, and fine-tuning."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lmtool.export import export_run
from lmtool.model import ConfigError, Run, RunError, TrainOptions, TrainResult, preset_named, run_training
from lmtool.model.training.progress import TrainingProgress
from lmtool.runtime import OptionError
from lmtool.runtime.artifact.artifact import Artifact
from support.corpora import write_corpus
from support.runs.reporters import RecordingReporter, StopAfter
from support.runs.settings import SETTINGS
from support.runs.trainers import latest_weights_hash


def train(run: Path, reporter: Any = None, **options: Any) -> TrainResult:
    return run_training(TrainOptions(run=run, threads=1, **options), reporter or RecordingReporter())


@pytest.mark.parametrize(
    ("tokens", "epochs"), [(100, 20), (5_000, 20), (10_000, 10), (18_000, 8), (261_220, 8), (10**9, 8)]
)
def test_quick_reads_a_small_text_more_often(tokens: int, epochs: int) -> None:
    assert preset_named("quick").adapted_to(tokens).epochs == epochs
    assert preset_named("ptb-200").adapted_to(tokens).epochs == 13
    assert preset_named("quick").with_settings({"epochs": "4"}).adapted_to(tokens).epochs == 4
    assert preset_named("ptb-200").with_settings({"epochs": "none"}).adapted_to(tokens).epochs == epochs


@pytest.mark.parametrize(
    ("tokens", "dropout"), [(1, 0.6), (9_999, 0.6), (10_000, 0.5), (100_000, 0.4), (200_000, 0.2), (10**9, 0.2)]
)
def test_quick_drops_more_for_a_small_text(tokens: int, dropout: float) -> None:
    quick = preset_named("quick")
    assert quick.adapted_to(tokens).dropouts.hidden == quick.adapted_to(tokens).dropouts.output == dropout
    assert quick.with_settings({"dropout": "0.3"}).adapted_to(tokens).dropout == 0.3
    assert preset_named("keyboard").adapted_to(tokens).dropout == dropout
    assert preset_named("char-128").adapted_to(tokens).dropout == 0.15


@pytest.mark.parametrize(
    ("tokens", "streams", "rate"), [(1, 16, 0.01), (199_999, 16, 0.01), (200_000, 32, 0.014), (10**9, 32, 0.014)]
)
def test_quick_takes_smaller_batches_and_steps_for_a_small_text(tokens: int, streams: int, rate: float) -> None:
    quick = preset_named("quick")
    adapted = quick.adapted_to(tokens)
    assert (adapted.streams, adapted.initial_rate) == (streams, rate)
    assert adapted.adapted_to(1) == adapted.adapted_to(10**9) == adapted
    chosen = quick.with_settings({"batch_size": "8", "learning_rate": "0.003"}).adapted_to(tokens)
    assert (chosen.streams, chosen.initial_rate) == (8, 0.003)


def test_a_training_says_its_sizes_and_what_adapts_to_the_text(tmp_path: Path, corpus_folder: Path) -> None:
    settings = {"embedding_size": "8", "layer_sizes": "8", "steps": "4", "epochs": "1", "min_count": "1"}
    first, resumed = RecordingReporter(), RecordingReporter()
    done = train(tmp_path / "run", first, data=str(corpus_folder), settings=settings)
    size, adapted = first.notes[-2:]
    tokens = sum(len(line.split()) + 1 for line in (corpus_folder / "train.txt").read_text().splitlines())
    assert size.startswith(
        f"{tokens:,} training tokens, {done.vocabulary_size} in the vocabulary; {done.parameters:,} "
    )
    assert adapted.startswith(
        "chosen for this number of training tokens: dropout=0.6, batch_size=16, learning_rate=0.01 ("
    )
    train(tmp_path / "run", resumed, resume=True, settings={"epochs": "2"})
    assert resumed.notes == []
    chosen = RecordingReporter()
    fixed = {**settings, "dropout": "0.1", "batch_size": "16", "learning_rate": "0.01"}
    train(tmp_path / "fixed", chosen, data=str(corpus_folder), settings=fixed)
    assert chosen.notes[-1] == size


@pytest.mark.parametrize(
    ("values", "is_falling", "has_risen"),
    [
        ([9.0], False, False),
        ([9.0, 8.0], True, False),
        ([65.8, 63.53, 63.33], False, False),
        ([128.21, 97.34, 85.0, 80.07, 78.21, 77.6], True, False),
        ([100.0, 67.1, 66.83, 66.93, 66.8, 66.79], False, False),
        ([50.0, 40.0, 40.3], False, False),
        ([50.0, 40.0, 41.0], False, True),
        ([50.0, 40.0, 48.0, 45.0], False, True),
    ],
)
def test_what_counts_as_still_falling_or_risen(values: list[float], is_falling: bool, has_risen: bool) -> None:
    history = [{"kind": "valid", "epoch": epoch, "perplexity": value} for epoch, value in enumerate(values, 1)]
    progress = TrainingProgress(history=history)
    assert (progress.is_falling, progress.has_risen) == (is_falling, has_risen)


@pytest.mark.parametrize("averaging", ["none", "exponential"])
def test_a_finished_run_goes_on_to_more_epochs(tmp_path: Path, corpus_folder: Path, averaging: str) -> None:
    settings = {**SETTINGS, "averaging": averaging, "schedule": "step"}
    longer = train(tmp_path / "longer", preset="ptb-200", data=str(corpus_folder), settings={**settings, "epochs": "3"})
    short = train(tmp_path / "short", preset="ptb-200", data=str(corpus_folder), settings={**settings, "epochs": "2"})
    assert (short.epochs, longer.epochs) == (2, 3)
    more = train(tmp_path / "short", resume=True, settings={"epochs": "3"})
    assert (more.epochs, more.test_perplexity) == (3, longer.test_perplexity)
    assert latest_weights_hash(short.run) == latest_weights_hash(longer.run)
    facts = json.loads((short.run / "config.json").read_text())
    assert facts["training"]["epochs"] == 3
    assert facts["extended"] == [{"finished": 2, "from": 2, "to": 3}]
    assert train(tmp_path / "short", resume=True).epochs == 3
    with pytest.raises(RunError, match="a run of 3 epochs, 2 are fewer; give 3 or more, or leave --epochs out"):
        train(tmp_path / "short", resume=True, settings={"epochs": "2"})


def test_a_run_that_goes_on_resumes_bit_for_bit(tmp_path: Path, run: Run) -> None:
    for name in ("whole", "stopped"):
        shutil.copytree(run.path, tmp_path / name)
    train(tmp_path / "whole", resume=True, settings={"epochs": "4"})
    with pytest.raises(Exception, match="stopped by SIGTERM"):
        train(tmp_path / "stopped", StopAfter(7), resume=True, settings={"epochs": "4"})
    train(tmp_path / "stopped", resume=True)
    assert latest_weights_hash(tmp_path / "stopped") == latest_weights_hash(tmp_path / "whole")


def test_a_run_that_stopped_early_does_not_go_on(tmp_path: Path, run: Run) -> None:
    trainer_settings = {**SETTINGS, "epochs": "9", "early_stopping": "1", "learning_rate": "0.5"}
    data = run.corpus_facts()["name"]
    done = train(tmp_path / "run", preset="ptb-200", data=data, settings=trainer_settings)
    assert done.epochs < 9
    with pytest.raises(RunError, match="stopped early, 1 epoch after its best one, so more epochs change nothing"):
        train(tmp_path / "run", resume=True, settings={"epochs": "12"})


@pytest.fixture
def new_text(tmp_path: Path) -> Path:
    folder = write_corpus(tmp_path / "new", (100, 20, 20))
    text = (folder / "train.txt").read_text()
    (folder / "train.txt").write_text(text.replace("bonds", "zebras").replace("news", "gnus"))
    return folder


def test_fine_tuning_starts_from_the_best_weights(tmp_path: Path, run: Run, new_text: Path) -> None:
    notes = RecordingReporter()
    settings = {"learning_rate": "1e-30"}
    tuned = Run(train(tmp_path / "tuned", notes, init=run.path, data=str(new_text), settings=settings).run)
    network, checkpoint = run.trained()
    for name, weight in tuned.trained()[0].weights().items():
        torch.testing.assert_close(weight, network.weights()[name])
    assert tuned.vocabulary().sha256 == run.vocabulary().sha256
    assert tuned.config().architecture == run.config().architecture
    note = next(line for line in notes.notes if "lacks" in line)
    assert "% of the text's tokens (2 different ones), most often 'zebras' " in note
    assert f"chosen for this number of training tokens: epochs={tuned.config().epochs} (" in notes.notes[-1]
    inherited = RecordingReporter()
    train(tmp_path / "inherited", inherited, init=run.path, data=str(new_text), settings={"epochs": "1"})
    inherits = (
        f"learning_rate={run.config().learning_rate:g}, that of {run.path}; trained weights often need a lower one"
    )
    assert inherited.notes[-1] == f"{inherits}: --set learning_rate=VALUE"
    artifact = Artifact.read(export_run(tuned).path)
    assert artifact.training["origin_weights_sha256"] == checkpoint.facts["weights_sha256"]
    assert artifact.training["origin_corpus_sha256"] == run.corpus_facts()["sha256"]
    assert "origin_run" not in artifact.training


def test_fine_tuning_that_begins_again_begins_with_the_same_weights(tmp_path: Path, run: Run, new_text: Path) -> None:
    shutil.copytree(run.path, tmp_path / "source")
    options: dict[str, Any] = {"data": str(new_text), "settings": {"epochs": "1"}}
    whole = train(tmp_path / "whole", init=tmp_path / "source", **options)
    with pytest.raises(Exception, match="stopped by SIGTERM"):
        train(tmp_path / "begun", StopAfter(1), init=tmp_path / "source", **options)
    Run(tmp_path / "begun").latest.unlink()
    train(tmp_path / "begun", resume=True)
    assert latest_weights_hash(tmp_path / "begun") == latest_weights_hash(whole.run)
    Run(tmp_path / "begun").latest.unlink()
    Run(tmp_path / "begun").best.unlink()
    shutil.rmtree(tmp_path / "source")
    with pytest.raises(RunError, match="source holds no run"):
        train(tmp_path / "begun", resume=True)


def test_what_contradicts_the_first_run_is_refused(tmp_path: Path, run: Run, new_text: Path) -> None:
    options = TrainOptions(run=tmp_path / "tuned", init=run.path, data=str(new_text), threads=1)
    for key, value in {"layer_sizes": "8,3", "cell": "gru", "tokenization": "characters", "min_count": "2"}.items():
        with pytest.raises(ConfigError, match=f"{key} is {value}, but the weights and the vocabulary of .* have"):
            run_training(dataclasses.replace(options, settings={key: value}), RecordingReporter())
    for change, message in (
        ({"preset": "quick"}, "--preset chooses other settings; give one of the two"),
        ({"resume": True}, "--resume goes on with a run; give one of the two"),
        ({"data": None}, "needs the new text to train on: --data"),
    ):
        with pytest.raises(OptionError, match=message):
            dataclasses.replace(options, **change)
    with pytest.raises(RunError, match="holds no run"):
        run_training(dataclasses.replace(options, init=tmp_path), RecordingReporter())
    assert not (tmp_path / "tuned").exists()

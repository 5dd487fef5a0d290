"""Run folders and checkpoints: in use, missing, unfinished, damaged."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmtool.model import (
    Checkpoint,
    CheckpointError,
    Run,
    RunError,
    TrainOptions,
    latest_run,
    load_corpus,
    preset_named,
    run_training,
)
from lmtool.model.network import LanguageModel, state_shapes, state_tensors, weight_shapes
from lmtool.model.training.progress import TrainingProgress
from lmtool.runtime import Architecture, StorageError
from support.runs.reporters import RecordingReporter
from support.runs.settings import DROPOUT_SETTINGS, SETTINGS
from support.runs.trainers import new_trainer


def test_a_run_in_use_is_refused(tmp_path: Path, corpus_folder: Path) -> None:
    new_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)
    options = TrainOptions(run=tmp_path / "run", resume=True, threads=1)
    with Run(tmp_path / "run").lock(), pytest.raises(RunError, match="is in use by another process"):
        run_training(options, RecordingReporter())
    run_training(options, RecordingReporter())


def test_a_folder_with_a_run_is_not_overwritten(run: Run, corpus_folder: Path) -> None:
    with pytest.raises(RunError, match="holds a run already; go on with it: --resume"):
        run_training(
            TrainOptions("ptb-200", str(corpus_folder), run.path, settings=SETTINGS, threads=1), RecordingReporter()
        )


def test_errors_for_missing_and_unfinished_runs_name_the_fix(tmp_path: Path, corpus_folder: Path) -> None:
    with pytest.raises(RunError, match=r"there is no run in .*; train one: lmtool train"):
        latest_run(tmp_path)
    with pytest.raises(RunError, match=r"holds no run \(config.json is missing\)"):
        Run(tmp_path).config()
    new_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)
    with pytest.raises(RunError, match="holds no finished epoch: best.safetensors is missing; train it"):
        Run(tmp_path / "run").trained()


def test_pydocs_keeps_its_name_beside_a_folder_named_pydocs(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pydocs").mkdir()
    corpus = load_corpus(str(corpus_folder), "auto")
    Run(tmp_path / "a").create(preset_named("quick"), dataclasses.replace(corpus, name="pydocs"))
    assert Run(tmp_path / "a").corpus_facts()["name"] == "pydocs"
    monkeypatch.chdir(corpus_folder.parent)
    Run(tmp_path / "b").create(preset_named("quick"), dataclasses.replace(corpus, name=corpus_folder.name))
    assert Run(tmp_path / "b").corpus_facts()["name"] == str(corpus_folder.resolve())


def test_trainings_that_begin_together_get_different_folders(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = TrainOptions("ptb-200", str(corpus_folder), settings={**SETTINGS, "epochs": "1"}, threads=1)
    assert len({run_training(options, RecordingReporter()).run for _ in range(2)}) == 2


def test_every_flipped_bit_of_a_checkpoint_is_detected(run: Run, tmp_path: Path) -> None:
    data = run.best.read_bytes()
    path = tmp_path / "broken.safetensors"
    for position in np.random.default_rng(0).choice(len(data), 200, replace=False):
        broken = bytearray(data)
        broken[position] ^= 1 << (position % 8)
        path.write_bytes(broken)
        with pytest.raises(CheckpointError):
            Checkpoint.read(path)
    path.write_bytes(data)
    assert Checkpoint.read(path).facts["epoch"]  # the positive control
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError):
        Checkpoint.read(path)
    with pytest.raises(StorageError, match="No such file"):
        Checkpoint.read(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.projection.bias": None}, "'model.projection.bias' is missing"),
        ({"model.extra": torch.zeros(1)}, "'model.extra' is not expected"),
        ({"model.projection.bias": torch.zeros(2)}, r"'model.projection.bias' is \[2\], expected \["),
        ({"model.embedding.weight": "nan"}, "'model.embedding.weight' holds numbers that are not finite"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    run: Run, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    copy = Run(tmp_path / "copy")
    (copy.path / "checkpoints").mkdir(parents=True)
    for name in ("config.json", "vocabulary.json"):
        (copy.path / name).write_bytes((run.path / name).read_bytes())
    best = Checkpoint.read(run.best)
    tensors = dict(best.tensors)
    for name, value in change.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = torch.full_like(tensors[name], math.nan) if isinstance(value, str) else value
    Checkpoint(tensors, best.facts).write(copy.best)
    with pytest.raises(CheckpointError, match=message) as refusal:
        copy.trained()
    assert str(refusal.value).startswith(f"the checkpoint {copy.best} does not fit: ")
    assert str(refusal.value).endswith("; put a copy of that file back, or train anew: lmtool train --run DIR")


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("tied", [False, True])
def test_shapes_are_known_without_a_network(cell: str, tied: bool) -> None:
    architecture = Architecture(cell, 3, (7, 3), tied)
    network = LanguageModel(architecture, 11)
    assert weight_shapes(architecture, 11) == {name: tuple(tensor.shape) for name, tensor in network.weights().items()}
    states = state_tensors(network.initial_state(2))
    assert state_shapes(architecture, 2) == {name: tuple(tensor.shape) for name, tensor in states.items()}


def copy_of(run: Run, path: Path) -> Run:
    (path / "checkpoints").mkdir(parents=True)
    for name in ("config.json", "vocabulary.json"):
        (path / name).write_bytes((run.path / name).read_bytes())
    return Run(path)


def test_wrong_sizes_are_refused_before_a_network_is_made(run: Run, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path / "copy")
    for name in ("best", "latest"):
        (getattr(copy, name)).write_bytes(getattr(run, name).read_bytes())
    settings = json.loads((copy.path / "config.json").read_text())
    settings["training"] |= {"embedding_size": 65536, "layer_sizes": [65536] * 20}
    (copy.path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=r"'model.embedding.weight' is \[.*, 5\], expected \[.*, 65536\]"):
        copy.trained()
    with pytest.raises(CheckpointError, match=r"'model.embedding.weight' is \[.*, 5\], expected \[.*, 65536\]"):
        run_training(TrainOptions(run=copy.path, resume=True, threads=1), RecordingReporter())


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"epoch": "1"}, "has the epoch '1', expected 0 or more, below 2"),
        ({"epoch": 2**63}, "has the epoch 9223372036854775808"),
        ({"epoch": 10**400}, "is damaged: a part is JSON with a whole number of 401 digits"),
        ({"test_perplexity": []}, "has the test_perplexity"),
        ({"test_perplexity": -math.inf}, "is damaged: a part is JSON with -Infinity"),
        ({"valid_perplexity": math.nan}, "is damaged: a part is JSON with NaN"),
        ({"valid_perplexity": math.inf}, "has the valid_perplexity inf, expected a finite number of 1 or more"),
        ({"valid_perplexity": 0.5}, "has the valid_perplexity 0.5, expected a finite number of 1 or more"),
        ({"vocabulary_sha256": None}, "is not the vocabulary that"),
    ],
)
def test_invalid_facts_are_refused(run: Run, tmp_path: Path, facts: dict[str, Any], message: str) -> None:
    best, copy = Checkpoint.read(run.best), copy_of(run, tmp_path / "copy")
    Checkpoint(best.tensors, {**best.facts, **facts}).write(copy.best)
    with pytest.raises((CheckpointError, RunError), match=message):
        copy.trained()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": -1}, "position has the step -1"),
        ({"finished": 1}, "position has the finished 1"),
        ({"history": [{"kind": "train"}]}, "position has the history"),
        ({"loss_sum": 10**400}, "position has the loss_sum 1000"),
        ({"seconds": 2**63}, "position has the seconds"),
        ({"history": [{"kind": "train", "epoch": 10**400, "perplexity": 2.0}]}, "position has the history"),
        ({"history": [{"kind": "train", "epoch": 1e300, "perplexity": 2.0}]}, "position has the history"),
        ({"history": [{"kind": "train", "epoch": 1, "perplexity": 10**400}]}, "position has the history"),
        ({"history": [{"kind": "train", "epoch": 1, "perplexity": math.nan}]}, "position has the history"),
        ({"history": [{"kind": "train", "epoch": 1, "perplexity": 0.0}]}, "position has the history"),
        ({"history": [{"kind": "train", "epoch": 1, "perplexity": -math.inf}]}, "position has the history"),
        ({"history": [{"kind": "train", "epoch": 1, "perplexity": 2.0, "loss": math.nan}]}, "position has the history"),
        ({"history": []}, "position is after 2 epochs, its history has 0"),
        ({"more": 1}, "has no position to go on from"),
    ],
)
def test_invalid_progress_is_refused(run: Run, change: dict[str, Any], message: str) -> None:
    position = Checkpoint.read(run.latest).facts["position"]
    assert TrainingProgress.from_json(position).finished
    with pytest.raises(CheckpointError, match=message):
        TrainingProgress.from_json({**position, **change})


def test_an_infinite_perplexity_is_kept(run: Run, tmp_path: Path) -> None:
    """A diverging epoch records an infinite perplexity, also in its checkpoint."""
    latest = Checkpoint.read(run.latest)
    record = {"kind": "train", "epoch": 0.5, "perplexity": math.inf, "loss": 800.0}
    position = {**latest.facts["position"], "history": [*latest.facts["position"]["history"], record]}
    Checkpoint(latest.tensors, {**latest.facts, "position": position}).write(tmp_path / "checkpoint")
    assert TrainingProgress.from_json(Checkpoint.read(tmp_path / "checkpoint").facts["position"]).history[-1] == record


def test_a_vocabulary_too_large_to_read_begins_no_run(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = load_corpus(str(corpus_folder), "auto")
    monkeypatch.setattr("lmtool.model.run.LARGE_BYTES", 40)
    with pytest.raises(
        RunError, match=r"tokens could not be read again: it is JSON of .*; leave rare tokens out: --set"
    ):
        Run(tmp_path / "run").create(preset_named("quick"), corpus)
    assert not (tmp_path / "run").exists()


def test_files_that_are_too_large_or_deep_are_refused(run: Run, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path / "copy")
    good = (copy.path / "config.json").read_text()
    for more, message in (
        ("[" * 900 + "]" * 900, "nests 901 levels deep"),
        ("[" + "[]," * 2_000_000 + "1]", "is JSON of 6,0.* bytes, expected 4,194,304 at most"),
    ):
        (copy.path / "config.json").write_text(f'{good.rstrip()[:-1]},"x":{more}}}')
        with pytest.raises(RunError, match=rf"config.json is damaged: it is JSON.*{message.removeprefix('is JSON')}"):
            copy.config()
    (copy.path / "config.json").write_text(f'{good.rstrip()[:-1]},"x":[[]]}}')
    assert copy.config() == run.config()  # the positive control

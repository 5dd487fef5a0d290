"""Run folders and their checkpoints: whose they are, what is missing, what is damaged."""

import dataclasses
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
from lmtool.runtime import StorageError
from tiny import SETTINGS, Silent
from trainings import DROPOUT, new_trainer


def test_a_run_in_use_is_refused(tmp_path: Path, corpus_folder: Path) -> None:
    new_trainer(corpus_folder, tmp_path / "run", DROPOUT)
    options = TrainOptions(run=tmp_path / "run", resume=True, threads=1)
    with Run(tmp_path / "run").lock(), pytest.raises(RunError, match="is in use by another process"):
        run_training(options, Silent())
    run_training(options, Silent())


def test_a_folder_with_a_run_is_not_trained_over(run: Run, corpus_folder: Path) -> None:
    with pytest.raises(RunError, match="holds a run already; go on with it: --resume"):
        run_training(TrainOptions("ptb-200", str(corpus_folder), run.path, settings=SETTINGS), Silent())


def test_missing_and_unfinished_runs_say_what_to_do(tmp_path: Path, corpus_folder: Path) -> None:
    with pytest.raises(RunError, match=r"there is no run in .*; train one: lmtool train"):
        latest_run(tmp_path)
    with pytest.raises(RunError, match=r"holds no run \(config.json is missing\)"):
        Run(tmp_path).config()
    new_trainer(corpus_folder, tmp_path / "run", DROPOUT)
    with pytest.raises(RunError, match="holds no finished epoch; train it first"):
        Run(tmp_path / "run").trained()


def test_the_embedded_corpus_keeps_its_name_beside_a_folder_called_so(
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


def test_trainings_that_begin_together_get_folders_of_their_own(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = TrainOptions("ptb-200", str(corpus_folder), settings={**SETTINGS, "epochs": "1"}, threads=1)
    assert len({run_training(options, Silent()).run for _ in range(2)}) == 2


def test_every_flipped_byte_of_a_checkpoint_is_noticed(run: Run, tmp_path: Path) -> None:
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
    with pytest.raises(CheckpointError, match=message):
        copy.trained()

"""Training learns, resumes to the bit, and never loses what it has."""

import dataclasses
import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import real_corpus
from lmtool.model import (
    Checkpoint,
    CheckpointError,
    DataError,
    Interrupted,
    LanguageModel,
    Run,
    RunError,
    Trainer,
    TrainingError,
    TrainOptions,
    evaluate_perplexity,
    latest_run,
    load_corpus,
    preset_named,
    run_training,
)
from lmtool.model.signals import StopRequest
from lmtool.runtime import Architecture, OptionError, StorageError
from tiny import SETTINGS, Silent
from trainings import StopAfter, final_weights, new_trainer, without_times

DROPOUT = {**SETTINGS, "dropout": "0.2"}


def test_training_learns_and_leaves_everything_in_the_run_folder(run: Run) -> None:
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    valid = [record["perplexity"] for record in records if record["kind"] == "valid"]
    assert len(valid) == 2
    corpus = run.corpus()
    assert valid[1] < valid[0] < corpus.unigram_perplexity("valid")
    assert records[-1]["kind"] == "test"
    network, best = run.trained()
    assert best.facts["valid_perplexity"] == min(valid)
    assert best.facts["test_perplexity"] == pytest.approx(evaluate_perplexity(network, corpus.ids["test"]), rel=1e-6)
    assert run.curves.read_bytes().startswith(b"\x89PNG")
    assert not [name for name in os.listdir(run.path) if ".tmp" in name]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path: Path, corpus_folder: Path) -> None:
    hashes = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        settings = {**DROPOUT, "epochs": "1", "seed": seed}
        run_training(
            TrainOptions("ptb-200", str(corpus_folder), tmp_path / name, settings=settings, threads=1), Silent()
        )
        hashes.append(final_weights(tmp_path / name))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("steps", [1, 7, 102, 103, 150])
def test_a_stopped_training_resumes_to_the_same_bits(tmp_path: Path, corpus_folder: Path, steps: int) -> None:
    whole = new_trainer(corpus_folder, tmp_path / "whole", DROPOUT)
    whole.train(Silent())
    stopped = new_trainer(corpus_folder, tmp_path / "stopped", DROPOUT)
    with pytest.raises(Interrupted) as stop:
        stopped.train(StopAfter(steps))
    assert stop.value.exit_code == 143
    resumed = new_trainer(corpus_folder, tmp_path / "stopped", DROPOUT, create=False)
    resumed.restore()
    assert resumed.position.epoch * 102 + resumed.position.step == steps
    resumed.train(Silent())
    assert final_weights(tmp_path / "stopped") == final_weights(tmp_path / "whole")
    assert without_times(resumed.position.history) == without_times(whole.position.history)
    logged = [json.loads(line) for line in Run(tmp_path / "stopped").metrics.read_text().splitlines()]
    assert without_times(logged) == without_times(whole.position.history)


def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path: Path, corpus_folder: Path) -> None:
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "lmtool.cli", "train", "--preset", "ptb-200", "--data", str(corpus_folder)]
    command += ["--run", str(folder), "--threads", "1"]
    command += [argument for key, value in DROPOUT.items() for argument in ("--set", f"{key}={value}")]
    process = subprocess.Popen([*command, "--set", "epochs=400"], stderr=subprocess.DEVNULL)
    while not Run(folder).latest.exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)
    process.kill()
    process.wait()
    position = Checkpoint.read(Run(folder).latest).facts["position"]
    assert position["epoch"] >= 1
    Run(folder).trained()
    interrupted = subprocess.Popen([*command, "--set", "epochs=400", "--resume"], stderr=subprocess.PIPE, text=True)
    assert interrupted.stderr is not None
    assert "epoch" in interrupted.stderr.readline()
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.wait(20) == 130
    assert "stopped by SIGINT" in interrupted.stderr.read()
    interrupted.stderr.close()
    later = Checkpoint.read(Run(folder).latest).facts["position"]
    assert (later["epoch"], later["step"]) > (position["epoch"], position["step"])


@pytest.mark.parametrize(
    ("after", "message"),
    [(("train", 1.5), "the loss is nan at epoch 2, step 52"), (("valid", 2), "a weight is no finite")],
)
def test_numbers_that_are_none_stop_the_training_and_keep_what_was_good(
    tmp_path: Path, corpus_folder: Path, after: tuple[str, float], message: str
) -> None:
    broken = new_trainer(corpus_folder, tmp_path / "run", DROPOUT)

    class Poison(Silent):
        def record(self, record: dict[str, Any]) -> None:
            if (record["kind"], record["epoch"]) == after:
                with torch.no_grad():
                    broken._network.projection.bias[0] = math.nan

    with pytest.raises(TrainingError, match=rf"{message}.* try a lower learning_rate \(0.02\)"):
        broken.train(Poison())
    network, _ = Run(tmp_path / "run").trained()
    assert math.isfinite(evaluate_perplexity(network, broken.corpus.ids["valid"]))
    again = new_trainer(corpus_folder, tmp_path / "run", DROPOUT, create=False)
    again.restore()
    again.train(Silent())
    assert again.position.finished


def test_another_configuration_or_corpus_is_not_resumed(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"dropout was 0.0, is 0.5; resume with the same settings, begin"):
        run_training(TrainOptions(run=run.path, threads=1, resume=True, settings={"dropout": "0.5"}), Silent())
    other = tmp_path / "other"
    other.mkdir()
    for split in ("train", "valid", "test"):
        text = (Path(run.corpus_facts()["name"]) / f"{split}.txt").read_text()
        (other / f"{split}.txt").write_text(text + "the cat\n")
    with pytest.raises(RunError, match="the corpus has changed"):
        run_training(TrainOptions(run=run.path, threads=1, resume=True, data=str(other)), Silent())


def test_a_finished_run_is_left_as_it_is(run: Run) -> None:
    before = run.latest.read_bytes()
    result = run_training(TrainOptions(run=run.path, threads=1, resume=True), Silent())
    assert run.latest.read_bytes() == before
    assert result.epoch in (1, 2)


def test_a_run_in_use_is_refused(tmp_path: Path, corpus_folder: Path) -> None:
    new_trainer(corpus_folder, tmp_path / "run", DROPOUT)
    options = TrainOptions(run=tmp_path / "run", resume=True, threads=1)
    with Run(tmp_path / "run").lock(), pytest.raises(RunError, match="is in use by another process"):
        run_training(options, Silent())
    run_training(options, Silent())


def test_a_folder_with_a_run_is_not_trained_over(run: Run, corpus_folder: Path) -> None:
    with pytest.raises(RunError, match="holds a run already; go on with it: --resume"):
        run_training(TrainOptions("ptb-200", str(corpus_folder), run.path, settings=SETTINGS), Silent())


def test_a_corpus_that_is_too_short_leaves_no_folder(tmp_path: Path, corpus_folder: Path) -> None:
    settings = {**SETTINGS, "batch_size": "9000"}
    with pytest.raises(DataError, match="what fits: --set batch_size="):
        run_training(TrainOptions("ptb-200", str(corpus_folder), tmp_path / "run", settings=settings), Silent())
    assert not (tmp_path / "run").exists()


def test_missing_and_unfinished_runs_say_what_to_do(tmp_path: Path, corpus_folder: Path) -> None:
    with pytest.raises(RunError, match=r"there is no run in .*; train one: lmtool train"):
        latest_run(tmp_path)
    with pytest.raises(RunError, match=r"holds no run \(config.json is missing\)"):
        Run(tmp_path).config()
    new_trainer(corpus_folder, tmp_path / "run", DROPOUT)
    with pytest.raises(RunError, match="holds no finished epoch; train it first"):
        Run(tmp_path / "run").trained()


def test_options_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="device 'tpu' is not known"):
        TrainOptions(device="tpu")
    with pytest.raises(OptionError, match="threads is 0"):
        TrainOptions(threads=0)


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
        ({"model.projection.bias": None}, "'projection.bias' is missing"),
        ({"model.extra": torch.zeros(1)}, "'extra' is not expected"),
        ({"model.projection.bias": torch.zeros(2)}, r"'projection.bias' is \[2\], expected \["),
        ({"model.embedding.weight": "nan"}, "'embedding.weight' holds numbers that are not finite"),
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


def test_shapes_of_the_network_are_as_documented() -> None:
    network = LanguageModel(Architecture("lstm", 5, (7, 3), tied=False), 11)
    logits, state = network(torch.zeros(2, 4, dtype=torch.int64), network.initial_state(2))
    assert logits.shape == (2, 4, 11)
    assert [tuple(part.shape) for layer in state for part in layer] == [(2, 7), (2, 7), (2, 3), (2, 3)]
    tied = LanguageModel(Architecture("lstm", 3, (7, 3), tied=True), 11)
    assert sorted(tied.weights()) == sorted(set(network.weights()) - {"projection.weight"})


def test_the_initial_weights_are_the_recipes() -> None:
    network = LanguageModel(Architecture("lstm", 50, (60,), tied=False), 400)
    network.initialize(0.1, torch.Generator().manual_seed(1))
    for name, weight in network.weights().items():
        if "bias" in name:
            assert not weight.any()
        else:
            assert weight.abs().max() <= 0.1
            assert weight.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.05)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert not [name for name in trained if "bias_hh" in name]


def test_evaluation_scores_every_token_once_by_hand() -> None:
    network = LanguageModel(Architecture("lstm", 5, (7, 3), tied=False), 11)
    ids = np.random.default_rng(0).integers(0, 11, 700).astype(np.int32)
    logits, _ = network(torch.from_numpy(ids[None, :-1].astype(np.int64)), network.initial_state(1))
    expected = torch.nn.functional.cross_entropy(logits[0], torch.from_numpy(ids[1:].astype(np.int64))).exp().item()
    assert evaluate_perplexity(network, ids) == pytest.approx(expected, rel=1e-5)


def test_the_first_steps_on_penn_treebank_go_as_they_did(tmp_path: Path) -> None:
    """A twentieth of an epoch of `ptb-200`; a whole one, measured, reaches 190 on valid (bench/RESULTS.md)."""
    config = preset_named("ptb-200")
    corpus = load_corpus(str(real_corpus("ptb")), config.tokenization)
    run = Run(tmp_path / "run")
    run.create(config, corpus)
    begun = Trainer(config, corpus, run)

    class First(Silent):
        def record(self, record: dict[str, Any]) -> None:
            super().record(record)
            os.kill(os.getpid(), signal.SIGINT)

    reporter = First()
    with pytest.raises(Interrupted):
        begun.train(reporter)
    assert reporter.records[0]["epoch"] == pytest.approx(0.05, abs=0.001)
    assert reporter.records[0]["perplexity"] == pytest.approx(1442, rel=0.05)


def test_a_run_killed_before_its_first_checkpoint_starts_its_log_again(tmp_path: Path, corpus_folder: Path) -> None:
    begun = new_trainer(corpus_folder, tmp_path / "run", DROPOUT)
    begun.run.write_metrics([{"kind": "train", "epoch": 0.5, "perplexity": 1.0}])
    begun.restore()
    begun.train(Silent())
    logged = [json.loads(line) for line in begun.run.metrics.read_text().splitlines()]
    assert without_times(logged) == without_times(begun.position.history)


def test_a_signal_during_the_last_measurement_is_not_lost(tmp_path: Path, corpus_folder: Path) -> None:
    class AtTheEnd(Silent):
        def record(self, record: dict[str, Any]) -> None:
            if record["kind"] == "test":
                os.kill(os.getpid(), signal.SIGINT)

    ready = new_trainer(corpus_folder, tmp_path / "run", DROPOUT)
    with pytest.raises(Interrupted) as stop:
        ready.train(AtTheEnd())
    assert stop.value.exit_code == 130
    finished = new_trainer(corpus_folder, tmp_path / "run", DROPOUT, create=False)
    finished.restore()
    assert finished.position.finished


def test_weights_that_are_no_numbers_never_become_the_best(tmp_path: Path, corpus_folder: Path) -> None:
    """A token that the valid text does not hold: its perplexity is fine, its vector is not."""
    broken = new_trainer(corpus_folder, tmp_path / "run", DROPOUT)
    unseen = broken.corpus.vocabulary.unknown_id
    assert unseen not in broken.corpus.ids["valid"]

    class Poison(Silent):
        def step(self, *_: object) -> None:
            with torch.no_grad():
                broken._network.embedding.weight[unseen] = math.nan

    with pytest.raises(TrainingError, match="a weight is no finite number"):
        broken.train(Poison())
    assert not Run(tmp_path / "run").best.exists()


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


class FailingWrites:
    """Stands for `Path.write_bytes`: the next writes of some file end half-way with a full disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, file: str = "safetensors") -> None:
        self.file = file
        self.left = 0
        self.slept: list[float] = []
        monkeypatch.setattr(Path, "write_bytes", self._patched(Path.write_bytes))
        monkeypatch.setattr("time.sleep", self.slept.append)

    def _patched(self, write: Any) -> Any:
        def write_bytes(path: Path, data: bytes) -> int:
            if self.file in path.name and self.left > 0:
                self.left -= 1
                write(path, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(write(path, data))

        return write_bytes


@pytest.mark.parametrize("file", ["best.safetensors", "latest.safetensors", "metrics.jsonl", "curves.png"])
def test_a_write_that_fails_is_tried_again(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    made = new_trainer(corpus_folder, tmp_path / "run", DROPOUT)
    disk = FailingWrites(monkeypatch, file)
    disk.left = 2
    made.train(Silent())
    assert disk.slept == [0.5, 2.0]
    assert made.position.finished


def test_a_disk_that_stays_full_is_reported_and_the_last_checkpoint_still_loads(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = new_trainer(corpus_folder, tmp_path / "whole", DROPOUT)
    whole.train(Silent())
    made = new_trainer(corpus_folder, tmp_path / "run", DROPOUT)
    disk = FailingWrites(monkeypatch)

    class FullFromTheSecondEpoch(Silent):
        def record(self, record: dict[str, Any]) -> None:
            if record["kind"] == "train" and record["epoch"] == 1.5:
                disk.left = 100

    with pytest.raises(StorageError, match=r"cannot write .*safetensors: No space left on device"):
        made.train(FullFromTheSecondEpoch())
    disk.left = 0
    assert not [name for name in os.listdir(tmp_path / "run" / "checkpoints") if ".tmp" in name]
    again = new_trainer(corpus_folder, tmp_path / "run", DROPOUT, create=False)
    again.restore()
    assert again.position.epoch == 1
    again.train(Silent())
    assert final_weights(tmp_path / "run") == final_weights(tmp_path / "whole")


def test_a_gradient_that_is_no_number_stops_before_it_reaches_the_weights(tmp_path: Path, corpus_folder: Path) -> None:
    broken = new_trainer(corpus_folder, tmp_path / "run", DROPOUT)

    class Poison(Silent):
        def record(self, record: dict[str, Any]) -> None:
            if record["kind"] == "valid":
                broken._network.projection.weight.register_hook(lambda gradient: gradient * math.nan)

    with pytest.raises(TrainingError, match="the norm of the gradient is nan at epoch 2, step 1; "):
        broken.train(Poison())
    assert all(bool(tensor.isfinite().all()) for tensor in broken._network.weights().values())


def test_a_second_signal_ends_at_once() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT  # remembered, nothing raised
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)

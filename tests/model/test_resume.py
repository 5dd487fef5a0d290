"""A stopped or killed training resumes bit for bit, or its error names the reason."""

import functools
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lmtool.model import Checkpoint, CheckpointError, Interrupted, Run, RunError, Trainer, TrainOptions, run_training
from lmtool.model.training.signals import StopRequest
from support.processes.commands import Command, lmtool
from support.runs.reporters import RecordingReporter, StopAfter
from support.runs.settings import DROPOUT_SETTINGS
from support.runs.trainers import latest_weights_hash, new_trainer, resumed_trainer, without_times
from support.runs.uninterrupted import wait_for_saves


@pytest.fixture(scope="module")
def uninterrupted_training(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trainer]:
    """Returns a finished training with this kind of averaging; each kind is trained once."""

    @functools.cache
    def finished(averaging: str) -> Trainer:
        settings = {**DROPOUT_SETTINGS, "averaging": averaging}
        trainer = new_trainer(corpus_folder, tmp_path_factory.mktemp("uninterrupted") / averaging, settings)
        trainer.train(RecordingReporter())
        return trainer

    return finished


@pytest.mark.parametrize("steps", [1, 7, 102, 103, 150])
def test_a_stopped_training_resumes_bit_for_bit(
    tmp_path: Path, corpus_folder: Path, uninterrupted_training: Callable[[str], Trainer], steps: int
) -> None:
    uninterrupted = uninterrupted_training("none")
    stopped = new_trainer(corpus_folder, tmp_path / "stopped", DROPOUT_SETTINGS)
    with pytest.raises(Interrupted) as stop:
        stopped.train(StopAfter(steps))
    assert stop.value.exit_code == 143
    resumed = resumed_trainer(corpus_folder, tmp_path / "stopped", DROPOUT_SETTINGS)
    assert resumed.progress.epoch * 102 + resumed.progress.step == steps
    resumed.train(RecordingReporter())
    assert latest_weights_hash(tmp_path / "stopped") == latest_weights_hash(uninterrupted.run.path)
    assert without_times(resumed.progress.history) == without_times(uninterrupted.progress.history)
    logged = [json.loads(line) for line in Run(tmp_path / "stopped").metrics.read_text().splitlines()]
    assert without_times(logged) == without_times(uninterrupted.progress.history)


@pytest.mark.parametrize(
    "numbers", [[signal.SIGHUP, signal.SIGHUP], [signal.SIGTERM, signal.SIGHUP], [signal.SIGHUP, signal.SIGTERM]]
)
def test_the_signals_of_a_closed_session_stop_a_training_once(
    tmp_path: Path, corpus_folder: Path, numbers: list[int]
) -> None:
    before = signal.signal(signal.SIGHUP, lambda *_: pytest.fail("SIGHUP reached the previous handler"))
    try:
        with pytest.raises(Interrupted) as stop:
            new_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS).train(StopAfter(3, *numbers))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert stop.value.exit_code == 128 + numbers[0]
    assert Checkpoint.read(Run(tmp_path / "run").latest).facts["position"]["step"] == 3


def test_ignored_signals_do_not_stop_a_training(tmp_path: Path, corpus_folder: Path) -> None:
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        trainer = new_trainer(corpus_folder, tmp_path / "run", {**DROPOUT_SETTINGS, "epochs": "1"})
        trainer.train(StopAfter(3, *numbers))
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN] * 3
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert trainer.progress.finished


def test_a_killed_training_resumes_from_its_last_checkpoint(tmp_path: Path, corpus_folder: Path) -> None:
    folder = tmp_path / "killed"
    words = ["train", "--preset", "ptb-200", "--data", corpus_folder, "--run", folder, "--threads", 1]
    settings = {**DROPOUT_SETTINGS, "epochs": "400"}
    words += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    killed = Command(*words).go()
    while not Run(folder).latest.exists():
        assert killed.runs_for(0.05)
    assert killed.runs_for(0.3)
    killed.signal(signal.SIGKILL)
    assert killed.finished().returncode == -signal.SIGKILL
    position = Checkpoint.read(Run(folder).latest).facts["position"]
    assert position["epoch"] >= 1
    Run(folder).trained()
    interrupted = Command(*words, "--resume").go()
    wait_for_saves(interrupted, Run(folder).latest, 1)
    interrupted.signal(signal.SIGINT)
    finished = interrupted.finished(20)
    assert finished.returncode == 130
    assert "epoch" in finished.stderr.splitlines()[0]
    assert "stopped by SIGINT" in finished.stderr
    later = Checkpoint.read(Run(folder).latest).facts["position"]
    assert (later["epoch"], later["step"]) > (position["epoch"], position["step"])


def test_a_resume_with_another_configuration_or_corpus_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"dropout was 0.0, is 0.5; resume with the same settings, begin"):
        run_training(
            TrainOptions(run=run.path, threads=1, resume=True, settings={"dropout": "0.5"}), RecordingReporter()
        )
    other = tmp_path / "other"
    other.mkdir()
    for split in ("train", "valid", "test"):
        text = (Path(run.corpus_facts()["name"]) / f"{split}.txt").read_text()
        (other / f"{split}.txt").write_text(text + "the cat\n")
    with pytest.raises(RunError, match="the corpus has changed"):
        run_training(TrainOptions(run=run.path, threads=1, resume=True, data=str(other)), RecordingReporter())
    (other / "train.txt").write_text("other words than those of the run\n" * 100)
    with pytest.raises(RunError, match="the corpus has changed"):
        run_training(TrainOptions(run=run.path, threads=1, resume=True, data=str(other)), RecordingReporter())
    (other / "train.txt").write_text("")
    with pytest.raises(RunError, match="the corpus has changed"):
        run_training(TrainOptions(run=run.path, threads=1, resume=True, data=str(other)), RecordingReporter())
    with pytest.raises(RunError, match=r"preset was ptb-200, is char-128"):
        run_training(TrainOptions(run=run.path, threads=1, resume=True, preset="char-128"), RecordingReporter())


def stopped_run(corpus_folder: Path, path: Path, steps: int) -> Run:
    trainer = new_trainer(corpus_folder, path, DROPOUT_SETTINGS)
    with pytest.raises(Interrupted):
        trainer.train(StopAfter(steps))
    return trainer.run


def test_a_resume_with_an_edited_configuration_is_refused(tmp_path: Path, corpus_folder: Path) -> None:
    run = stopped_run(corpus_folder, tmp_path / "run", 7)
    config = json.loads((run.path / "config.json").read_text())
    config["training"]["seed"] += 1
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=r"latest\.safetensors was made with another configuration than .* holds now"):
        run_training(TrainOptions(run=run.path, threads=1, resume=True), RecordingReporter())


def test_the_best_checkpoint_cannot_be_resumed(tmp_path: Path, corpus_folder: Path) -> None:
    run = stopped_run(corpus_folder, tmp_path / "run", 103)
    shutil.copy(run.best, run.latest)
    with pytest.raises(CheckpointError, match=r"it holds weights only, nothing to go on from; put a copy of that file"):
        run_training(TrainOptions(run=run.path, threads=1, resume=True), RecordingReporter())


def test_a_resume_without_a_checkpoint_says_that_it_begins_again(tmp_path: Path, corpus_folder: Path) -> None:
    run = stopped_run(corpus_folder, tmp_path / "run", 1)
    shutil.rmtree(run.latest.parent)
    finished = lmtool("train", "--resume", "--run", run.path, "--threads", 1)
    assert finished.returncode == 0, finished.stderr
    assert f"{run.path} has no checkpoint to go on from: its training begins again" in finished.stderr
    assert finished.stderr.count(" training tokens, ") == 1
    assert run.latest.exists()


def test_a_resumed_finished_run_is_unchanged(run: Run) -> None:
    before = run.latest.read_bytes()
    result = run_training(TrainOptions(run=run.path, threads=1, resume=True), RecordingReporter())
    assert run.latest.read_bytes() == before
    assert result.epoch in (1, 2)


def test_a_run_without_a_checkpoint_restarts_its_log(tmp_path: Path, corpus_folder: Path) -> None:
    begun = new_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)
    begun.run.write_metrics([{"kind": "train", "epoch": 0.5, "perplexity": 1.0}])
    resumed = resumed_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)
    resumed.train(RecordingReporter())
    logged = [json.loads(line) for line in begun.run.metrics.read_text().splitlines()]
    assert without_times(logged) == without_times(resumed.progress.history)


def test_a_resume_draws_a_missing_picture(tmp_path: Path, corpus_folder: Path) -> None:
    killed = new_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)
    with pytest.raises(Interrupted):
        killed.train(StopAfter(204))
    killed.run.curves.unlink()
    resumed_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)
    assert killed.run.curves.is_file()


@pytest.mark.parametrize("averaging", ["none", "exponential"])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_signal_interrupts_an_evaluation(
    tmp_path: Path,
    corpus_folder: Path,
    uninterrupted_training: Callable[[str], Trainer],
    monkeypatch: pytest.MonkeyPatch,
    split: str,
    averaging: str,
) -> None:
    settings = {**DROPOUT_SETTINGS, "averaging": averaging}
    uninterrupted = uninterrupted_training(averaging)
    stopped = new_trainer(corpus_folder, tmp_path / "run", settings)
    evaluate = stopped._evaluate

    def evaluate_under_signal(network: Any, evaluated: str, stop: StopRequest) -> float | None:
        if evaluated == split:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(network, evaluated, stop)

    monkeypatch.setattr(stopped, "_evaluate", evaluate_under_signal)
    with pytest.raises(Interrupted):
        stopped.train(RecordingReporter())
    assert stopped.progress.epoch == (0 if split == "valid" else 2)
    resumed = resumed_trainer(corpus_folder, tmp_path / "run", settings)
    resumed.train(RecordingReporter())
    assert without_times(resumed.progress.history) == without_times(uninterrupted.progress.history)
    assert latest_weights_hash(tmp_path / "run") == latest_weights_hash(uninterrupted.run.path)


def test_a_signal_during_the_last_evaluation_is_not_lost(tmp_path: Path, corpus_folder: Path) -> None:
    class InterruptAtTheEnd(RecordingReporter):
        def record(self, record: dict[str, Any]) -> None:
            if record["kind"] == "test":
                os.kill(os.getpid(), signal.SIGINT)

    trainer = new_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)
    with pytest.raises(Interrupted) as stop:
        trainer.train(InterruptAtTheEnd())
    assert stop.value.exit_code == 130
    finished = resumed_trainer(corpus_folder, tmp_path / "run", DROPOUT_SETTINGS)
    assert finished.progress.finished


def test_a_second_signal_ends_the_process_at_once() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT  # recorded, nothing raised
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_resume_reads_its_checkpoint_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    read_files = []
    read_checkpoint = Checkpoint.read

    def record_read(path: Path) -> Checkpoint:
        read_files.append(path.name)
        return read_checkpoint(path)

    monkeypatch.setattr(Checkpoint, "read", record_read)
    run_training(TrainOptions(run=tmp_path / "run", resume=True, threads=1), RecordingReporter())
    assert read_files == ["latest.safetensors", "best.safetensors"]


def test_a_run_that_does_not_record_later_settings_resumes(
    tmp_path: Path, corpus_folder: Path, uninterrupted_training: Callable[[str], Trainer]
) -> None:
    run = stopped_run(corpus_folder, tmp_path / "run", 7)
    config, latest = json.loads((run.path / "config.json").read_text()), Checkpoint.read(run.latest)
    for training in (config["training"], latest.facts["training"]):
        for key in ("vocabulary_size", "partial_shuffle", "sampled_softmax", "full_softmax_share", "bias_init"):
            del training[key]
    (run.path / "config.json").write_text(json.dumps(config))
    latest.write(run.latest)
    run_training(TrainOptions(run=run.path, threads=1, resume=True), RecordingReporter())
    assert latest_weights_hash(run.path) == latest_weights_hash(uninterrupted_training("none").run.path)

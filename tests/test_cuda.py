"""Tests that need a GPU; they are skipped without one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmtool.bench import BenchOptions, Scenario, run_bench
from lmtool.bench.rounds import Schedule
from lmtool.export import export_run, verify_artifact
from lmtool.model import Interrupted, Run, TrainOptions, run_training
from lmtool.runtime import Predictor, ProviderError, available_providers
from lmtool.runtime.arrays import DeviceTensors
from support.corpora import write_corpus
from support.runs.reporters import RecordingReporter, StopAfter
from support.runs.settings import SETTINGS


@pytest.fixture(autouse=True)
def _onnxruntime_on_a_gpu() -> None:
    if "cuda" not in available_providers():
        pytest.skip("this onnxruntime carries no CUDA provider")
    if not torch.cuda.is_available():
        pytest.skip("this torch finds no CUDA device")


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_artifact_on_cuda_matches_the_network(tmp_path: Path, cell: str, precision: str) -> None:
    data = write_corpus(tmp_path / "data")
    settings = {**SETTINGS, "cell": cell, "layer_sizes": "48,32", "embedding_size": "24", "epochs": "1"}
    run_training(
        TrainOptions("ptb-200", str(data), tmp_path / "run", settings=settings, threads=1), RecordingReporter()
    )
    exported = export_run(Run(tmp_path / "run"), precision)
    report = verify_artifact(exported.path, provider="cuda")
    assert report.passed, report.format()
    assert report.provider == "cuda"


def test_the_recurrent_layers_run_on_the_gpu(artifact_path: Path) -> None:
    placed = Predictor.load(artifact_path, provider="cuda").placement
    assert placed["cuda"]["LSTM"] == 2
    assert "MatMul" in placed["cuda"]


def test_states_stay_and_scores_are_computed_on_the_gpu(artifact_path: Path) -> None:
    on_gpu, on_cpu = (Predictor.load(artifact_path, provider=provider) for provider in ("cuda", "cpu"))
    ids = np.random.default_rng(0).integers(0, len(on_gpu.vocabulary), (4, 9))
    ours, theirs = on_gpu.initial_state(4), on_cpu.initial_state(4)
    for _ in range(5):
        logits, ours = on_gpu.step(ids, ours, logits_to_keep=2)
        expected, theirs = on_cpu.step(ids, theirs, logits_to_keep=2)
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        assert isinstance(ours.tensors, DeviceTensors)
        assert {value.device_name().lower() for value in ours.tensors.values} == {"cuda"}
    log_probs, ours = on_gpu.log_probs(ids, ours, ids[:, :5])
    expected_log_probs, theirs = on_cpu.log_probs(ids, theirs, ids[:, :5])
    np.testing.assert_allclose(log_probs, expected_log_probs, atol=1e-4)
    for ours_there, theirs_here in zip(ours.tensors, theirs.tensors, strict=True):
        np.testing.assert_allclose(ours_there, theirs_here, atol=1e-4)


def test_int8_is_refused_on_cuda(run: Run) -> None:
    with pytest.raises(ProviderError, match="MatMulInteger would run on cpu"):
        Predictor.load(run.artifact("int8"), provider="cuda")


def test_the_benchmark_measures_pytorch_and_onnxruntime_on_the_gpu(run: Run) -> None:
    scenarios = [
        Scenario.parse(text) for text in ("single-stream", "multi-stream:4", "offline:1x8", "prefill:1x9", "load")
    ]
    options = BenchOptions(run.artifact("fp32"), ["cpu", "cuda"], scenarios=scenarios, schedule=Schedule(1, 0.05))
    results: Any = run_bench(options, lambda _: None)
    reasons = {**results.skipped, "failed": results.failed, "crashed": results.crashed}
    assert results.runtimes == ["torch", "onnx fp32", "onnx int8", "torch on cuda", "onnx fp32 on cuda"], reasons
    assert "onnx int8 on cuda" in results.skipped
    assert results.is_sound


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_training_on_the_gpu_is_recorded_in_its_precision(tmp_path: Path, corpus_folder: Path, precision: str) -> None:
    settings = {**SETTINGS, "precision": precision, "weight_dropout": "0.1", "averaging": "exponential"}
    options = TrainOptions("ptb-200", str(corpus_folder), tmp_path / "run", settings=settings, device="cuda")
    result = run_training(options, RecordingReporter())
    assert result.test_perplexity < result.unigram_perplexity
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    assert recorded["training"]["precision"] == precision
    assert recorded["environment"]["recurrent_layers"] == ("tf32" if precision == "tf32" else "fp32")
    assert recorded["environment"]["tf32"] == (precision == "tf32")
    assert recorded["environment"]["device"] == "cuda"


@pytest.mark.parametrize("sampled", ["0", "9"])
def test_the_first_losses_on_the_gpu_equal_those_on_the_cpu(tmp_path: Path, corpus_folder: Path, sampled: str) -> None:
    losses = {}
    for device in ("cpu", "cuda"):
        settings = {**SETTINGS, "precision": "fp32", "epochs": "1", "sampled_softmax": sampled}
        reporter = RecordingReporter()
        run = tmp_path / device
        run_training(TrainOptions("ptb-200", str(corpus_folder), run, settings=settings, device=device), reporter)
        losses[device] = [record["loss"] for record in reporter.records if record["kind"] == "train"]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_training_on_the_gpu_resumes_where_it_stopped(tmp_path: Path, corpus_folder: Path, optimizer: str) -> None:
    def options(name: str, *, resume: bool = False) -> TrainOptions:
        settings = {**SETTINGS, "dropout": "0.2", "averaging": "exponential", "optimizer": optimizer}
        return TrainOptions("ptb-200", str(corpus_folder), tmp_path / name, resume, settings, "cuda")

    whole = run_training(options("whole"), RecordingReporter())
    with pytest.raises(Interrupted):
        run_training(options("stopped"), StopAfter(150))
    resumed = run_training(options("stopped", resume=True), RecordingReporter())
    assert resumed.valid_perplexity == pytest.approx(whole.valid_perplexity, rel=1e-3)
    assert resumed.test_perplexity < resumed.unigram_perplexity

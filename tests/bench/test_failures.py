"""Backends that compute wrong numbers, crash, refuse or do not end: they are reported, the rest is measured."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmtool.bench import (
    BenchError,
    BenchOptions,
    Scenario,
    benchmark_run,
    candidates,
    format_table,
    save_results,
    verification,
)
from lmtool.bench.backends.source import Source
from lmtool.bench.load import loadgen
from lmtool.bench.target import LanguageModelTarget
from lmtool.bench.workers import launch
from lmtool.bench.workers.verify import verify_backend
from lmtool.model import Checkpoint, Run
from lmtool.runtime import Predictor, StorageError
from support.models.results import ONE, make_results
from support.processes.commands import lmtool, run_fresh


def test_a_server_scenario_is_skipped_without_loadgen(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scenarios = [ONE, Scenario("server", rate=5)]
    target = LanguageModelTarget(run.artifact("fp32"), ["cpu"], (), 1, tmp_path)
    assert target.possible(scenarios) == (scenarios, {})
    monkeypatch.setattr(loadgen, "missing", lambda: "it is not installed")
    assert target.possible(scenarios) == ([ONE], {"server:5": "it is not installed"})


def test_skipped_candidates_are_named() -> None:
    results = make_results({"torch": [[1e-3]]}, skipped={"onnx int8": "it runs on the CPU only"})
    assert "not measured: onnx int8: it runs on the CPU only" in format_table(results)


@pytest.fixture
def wrong(run: Run, tmp_path: Path) -> Run:
    """A copy of a run whose artifacts compute something else than its network does."""
    copy = Run(tmp_path / "wrong")
    shutil.copytree(run.path, copy.path)
    best = Checkpoint.read(copy.best)
    bias = best.tensors["model.projection.bias"]
    moved = {"model.projection.bias": bias + 0.01 * torch.arange(len(bias))}
    Checkpoint({**best.tensors, **moved}, best.facts).write(copy.best)
    return copy


def test_a_candidate_that_fails_its_verification_is_not_timed(wrong: Run, tmp_path: Path) -> None:
    command = ["bench", "--model", wrong.artifact("fp32"), "--rounds", 1, "--scenario", "load", "--json"]
    finished = lmtool(*command, "--save", tmp_path / "saved")
    assert finished.returncode == 3
    results = json.loads(finished.stdout)
    assert list(results["failed"]) == ["onnx fp32", "onnx int8"]
    assert any("differs by" in reason for reason in results["failed"]["onnx fp32"])
    assert [timing["runtime"] for timing in results["timings"]] == ["torch"]
    saved = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert saved == ["bench.html", "bench.json", "bench.png", "bench.txt"]


def test_failed_candidates_are_in_the_table() -> None:
    results = make_results({"torch": [[1e-3]]}, failed={"onnx fp32": ["logits differs by 0.3"]})
    assert not results.is_sound
    text = format_table(results)
    assert "onnx fp32  FAILED the verification: not timed" in text
    assert "! onnx fp32: logits differs by 0.3" in text


def test_results_without_a_timing_are_saved_without_a_picture(tmp_path: Path) -> None:
    results = make_results({}, failed={"onnx fp32": ["logits differ by 0.3"]})
    assert "! onnx fp32: logits differ by 0.3" in format_table(results)
    assert list(save_results(results, tmp_path)) == ["timings", "report", "table"]


def test_results_that_cannot_be_saved_are_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*_: object) -> None:
        raise StorageError("cannot write: no space left on device")

    results, lines = make_results({"torch": [[1e-3]]}), list[str]()
    monkeypatch.setattr(benchmark_run, "run_bench", lambda *_: results)
    monkeypatch.setattr(benchmark_run, "save_results", fails)
    with pytest.raises(StorageError, match="no space left"):
        benchmark_run.run_benchmark(BenchOptions(model=results.model), tmp_path, None, lines.append)
    assert lines == [format_table(results).rstrip()]


KILLED = """
import os, signal, sys

arguments = " ".join(sys.orig_argv)
if 'verify {"backend": "reference"' in arguments or ("pytest" in arguments and "model.int8.onnx" in arguments):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_runtime_that_crashes_is_reported_and_the_rest_goes_on(project: Path, tmp_path: Path) -> None:
    """One process is killed while it verifies, one while it times."""
    (tmp_path / "sitecustomize.py").write_text(KILLED)
    command = ["bench", "--against", "reference", "--scenario", "load", "--rounds", 1, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    folders = ["--save", tmp_path / "saved", "--history", tmp_path / "history", "--fail-if-slower", "10%"]
    finished = run_fresh(*command, *folders, cwd=project, env=environment)
    assert finished.returncode == 3
    results = json.loads(finished.stdout)
    assert list(results["crashed"]) == ["reference", "onnx int8"]
    for reason in results["crashed"].values():
        assert reason.startswith("the process was killed by SIGKILL; its last words:")
    assert [timing["runtime"] for timing in results["timings"]] == ["onnx fp32"]
    assert (tmp_path / "saved" / "bench.json").exists()
    assert [series["runtime"] for series in results["history"]["series"]] == ["onnx fp32"]
    assert results["history"]["failures"] == []
    assert (tmp_path / "history" / results["history"]["file"]).exists()


def test_crashed_candidates_are_in_the_table() -> None:
    results = make_results({"torch": [[1e-3]]}, crashed={"reference": "the process was killed by SIGKILL"})
    assert not results.is_sound
    text = format_table(results)
    assert "reference  CRASHED: not timed" in text
    assert "! reference: the process was killed by SIGKILL" in text


def test_a_process_that_fails_is_reported_with_its_last_lines(run: Run, tmp_path: Path) -> None:
    candidate = candidates.Candidate("reference", Source(tmp_path / "none.onnx", run.path))
    with pytest.raises(launch.CrashError, match=r"the process ended with 1; its last words:(?s:.*)none\.onnx"):
        launch.run_timing_job(candidate, [ONE], 0.02)
    with pytest.raises(launch.RefusedError, match=r"none\.onnx") as refused:
        launch.run_verification_job(candidate)
    assert not refused.value.by_provider


def test_a_process_that_does_not_end_is_stopped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_TIMEOUT_SECONDS", 0.5)
    with pytest.raises(launch.CrashError, match="did not end within 0.9 seconds and was stopped"):
        launch.run_verification_job(candidates.Candidate("reference", Source(run.artifact("fp32"), run.path)))


def test_a_refusal_skips_a_candidate_and_is_no_crash(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> dict[str, Any]:
        raise launch.RefusedError("it cannot compile that", by_provider=False)

    monkeypatch.setattr(verification, "run_verification_job", refuse)
    chosen, _ = candidates.find_candidates(run.artifact("fp32"), ["cpu"], ("reference",), 1)
    outcome = verification.verify_candidates(chosen, lambda _: None)
    assert outcome.skipped["reference"] == "it cannot compile that"
    assert outcome.crashed == {}
    with pytest.raises(BenchError, match="it cannot compile that"):
        verification.verify_candidates(chosen, lambda _: None, required=run.artifact("fp32"))


def test_a_wrong_number_in_a_size_that_is_timed_is_noticed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual sizes end at 16 streams."""
    source, step = Source(run.artifact("fp32"), run.path), Predictor.step

    def wrong(self: Predictor, token_ids: Any, *args: Any, **options: Any) -> Any:
        logits, state = step(self, token_ids, *args, **options)
        return (logits + np.float32(1e-3) if len(token_ids) == 40 else logits), state

    monkeypatch.setattr(Predictor, "step", wrong)
    assert verify_backend("onnxruntime", source)["passed"]
    report = verify_backend("onnxruntime", source, [Scenario("multi-stream", 40)])
    assert "batch 40, time 1" in report["failures"][0]

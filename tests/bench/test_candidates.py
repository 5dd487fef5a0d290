"""Candidates: other backends, siblings, foreign files; and what is skipped, with the reason."""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from lmtool.bench import BenchOptions, Scenario, candidates, format_table, run_bench
from lmtool.bench.backends.registry import BACKENDS
from lmtool.bench.backends.source import Source
from lmtool.bench.benchmark import identify
from lmtool.bench.rounds import Schedule
from lmtool.bench.workers import launch
from lmtool.bench.workers.verify import verify_backend
from lmtool.model import Run
from lmtool.runtime import ArtifactError, ProviderError
from support.models.results import ONE
from support.scale import torture_only

QUICK = Schedule(rounds=1, seconds_per_scenario=0.02)


@pytest.mark.portability
def test_other_runtimes_are_verified_and_measured(run: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(run.path, tmp_path / "run"))
    copy.artifact("int8").unlink()
    others = ("openvino-default", "reference")
    scenarios = [Scenario.parse(text) for text in ("offline:1x3", "prefill:2x3", "generation:3", "first-step")]
    options = BenchOptions(copy.artifact("fp32"), against=others, scenarios=scenarios, schedule=QUICK)
    results = run_bench(options, lambda _: None)
    assert results.failed == {}
    assert set(results.runtimes) == {*others, "onnx fp32"} - set(results.skipped)
    assert "reference" in results.runtimes
    for name in set(others) & set(results.skipped):
        assert "pip install" in results.skipped[name]
    for name, report in results.parity.items():
        assert report["loop_steps"] == 200, name
        assert report["passed"], name


def test_a_wrong_number_in_another_runtime_is_noticed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx.reference import ReferenceEvaluator

    original = ReferenceEvaluator.run

    def wrong(self: Any, *args: Any, **options: Any) -> Any:
        logits, *states = original(self, *args, **options)
        return [logits + np.float32(1e-3), *states]

    source = Source(run.artifact("fp32"), run.path)
    assert verify_backend("reference", source)["passed"]
    monkeypatch.setattr(ReferenceEvaluator, "run", wrong)
    report = verify_backend("reference", source)
    assert not report["passed"]
    assert "logits differs by 1.00e-03" in report["failures"][0]


@torture_only
def test_compiled_torch_is_verified_like_any_other(run: Run) -> None:
    if BACKENDS["torch-compile"].reason_missing():
        pytest.skip("torch.compile needs a C++ compiler")
    candidate = candidates.Candidate("torch-compile", Source(run.artifact("fp32"), run.path))
    assert launch.run_verification_job(candidate)["passed"]


def test_a_runtime_that_is_missing_is_named_with_the_remedy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find_spec(name))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    against = ("openvino", "torch-compile", "torch")
    chosen, skipped = candidates.find_candidates(run.artifact("fp32"), ["cpu"], against, 1)
    assert list(chosen) == ["torch", "onnx fp32", "onnx int8"]
    assert skipped["openvino"] == "it is not installed; pip install 'lmtool[portability]'"
    assert "needs a C++ compiler" in skipped["torch-compile"]
    assert "it runs fp32 artifacts" in str(candidates.reason_to_skip("reference", "cpu", None, run.path))
    assert "on the CPU only" in str(candidates.reason_to_skip("openvino", "cuda", run.artifact("fp32"), run.path))
    assert "no PyTorch original" in str(candidates.reason_to_skip("torch", "cpu", None, run.artifact("fp32")))
    assert "no torch beside openvino" in str(candidates.reason_to_skip("torch", "openvino", None, run.path))


def test_a_missing_driver_is_why_torch_is_not_measured(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr("lmtool.model.training.device.driver_fault", lambda: "the NVIDIA driver is missing")
    _, skipped = candidates.find_candidates(run.artifact("fp32"), ["cuda"], ("torch",), 1)
    assert skipped["torch on cuda"] == f"torch {torch.__version__} finds no CUDA device; the NVIDIA driver is missing"


def test_providers_are_measured_side_by_side(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    providers = ["cpu", "cuda", "cpu"]
    chosen, skipped = candidates.find_candidates(run.artifact("fp32"), providers, ("torch", "reference"), 1)
    assert list(chosen) == ["torch", "reference", "onnx fp32", "onnx int8", "torch on cuda", "onnx fp32 on cuda"]
    assert {name: candidate.source.provider for name, candidate in chosen.items()} == {
        **dict.fromkeys(["torch", "reference", "onnx fp32", "onnx int8"], "cpu"),
        **dict.fromkeys(["torch on cuda", "onnx fp32 on cuda"], "cuda"),
    }
    assert set(skipped) == {"reference on cuda", "onnx int8 on cuda"}
    assert [name for name, candidate in chosen.items() if candidate.is_original] == ["torch"]


def test_an_artifact_without_its_original_is_verified_against_the_reference(run: Run, tmp_path: Path) -> None:
    lonely = tmp_path / "model.onnx"
    lonely.write_bytes(run.artifact("fp32").read_bytes())
    server = Scenario.parse("server:100")
    schedule = Schedule(1, 0.02, loadgen_seconds=0.5)
    results = run_bench(BenchOptions(lonely, scenarios=[Scenario("load"), server], schedule=schedule), lambda _: None)
    assert results.runtimes == ["onnx fp32"]
    assert results.scenarios == [Scenario("load"), server]
    (served,) = results.timing("onnx fp32", server).rounds
    assert 20 < len(served.call_seconds) < 100
    assert served.requests_per_second == pytest.approx(100, rel=0.5)
    assert served.invalid_reasons  # so few requests prove nothing
    assert "not valid: " in format_table(results)
    assert "onnx.reference" in results.parity["onnx fp32"]["original"]
    assert results.skipped["torch"].startswith("there is no PyTorch original beside the model")


def test_a_foreign_file_with_the_contract_is_measured(run: Run, tmp_path: Path) -> None:
    foreign = tmp_path / "theirs.onnx"
    model = onnx.load(run.artifact("fp32"))
    del model.metadata_props[:]
    onnx.save(model, foreign)
    (tmp_path / "other.onnx").write_bytes(run.artifact("int8").read_bytes())
    against = ("torch", "reference")
    options = BenchOptions(foreign, against=against, scenarios=[ONE], schedule=QUICK)
    results = run_bench(options, lambda _: None)
    assert results.model == foreign
    assert results.runtimes == ["reference", "onnx fp32"]
    assert results.is_sound
    assert results.placement["onnx fp32"]["cpu"]["LSTM"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.onnx", "theirs.onnx"]
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = model.graph.output[0].name = "scores"
    onnx.save(model, foreign)
    with pytest.raises(ArtifactError, match="output 'logits'.*found none"):
        identify(options)


def test_an_artifact_of_another_training_is_no_sibling(run: Run, tmp_path: Path) -> None:
    artifacts, skipped = candidates.find_artifacts(run.artifact("fp32"), "cpu")
    assert list(artifacts) == ["fp32", "int8"]
    artifacts, skipped = candidates.find_artifacts(run.artifact("fp32"), "cuda")
    assert list(artifacts) == ["fp32"]
    assert list(skipped) == ["onnx int8 on cuda"]
    with pytest.raises(ProviderError, match="cannot run on cuda: onnxruntime multiplies"):
        lonely = tmp_path / "model.int8.onnx"
        lonely.write_bytes(run.artifact("int8").read_bytes())
        candidates.find_artifacts(lonely, "cuda")


def test_files_beside_the_model_are_measured_or_skipped_with_a_reason(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    (copy / "foreign.onnx").write_bytes(b"something else")
    (copy / ".model.onnx.tmp.onnx").write_bytes(b"half a file")
    (copy / "second.onnx").write_bytes((copy / "model.onnx").read_bytes())
    artifacts, skipped = candidates.find_artifacts(copy / "model.onnx", "cpu")
    assert list(artifacts) == ["fp32", "int8"]
    assert skipped["foreign.onnx"].startswith("it is no artifact of this lmtool: ")
    assert skipped == {
        "foreign.onnx": skipped["foreign.onnx"],
        "second.onnx": "onnx fp32 is measured from model.onnx",
    }

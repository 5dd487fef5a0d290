"""The harness on a tiny artifact: real processes, parity as a gate, honest gaps, and the figures themselves."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import lmtool
from handmade import make_results
from lmtool.bench import (
    BenchError,
    BenchOptions,
    Scenario,
    format_table,
    harness,
    run_bench,
    run_demo,
    save_results,
)
from lmtool.bench.runtimes import KINDS, Source
from lmtool.bench.verifying import verify_runtime
from lmtool.model import Checkpoint, Run, TrainOptions
from lmtool.runtime import OptionError
from tiny import SETTINGS, Silent


@pytest.fixture(scope="module")
def measured(run: Run) -> Any:
    said: list[str] = []
    options = BenchOptions(run.artifact("fp32"), batches=(3,), times=(4,), rounds=2, seconds=0.02)
    return run_bench(options, said.append), said


def test_every_runtime_is_verified_then_measured_in_every_scenario(measured: Any) -> None:
    results, said = measured
    assert results.runtimes == ["torch", "onnx fp32", "onnx int8"]
    assert [str(scenario) for scenario in results.scenarios] == ["1x1", "3x1", "1x4"]
    assert {name: report["passed"] for name, report in results.parity.items()} == {"onnx fp32": True, "onnx int8": True}
    assert said[:2] == [f"parity of onnx {precision} with the original" for precision in ("fp32", "int8")]
    turns = ["torch", "onnx fp32", "onnx int8", "onnx fp32", "onnx int8", "torch"]
    assert [line.partition(": ")[2] for line in said[2:]] == turns
    assert results.placement["onnx fp32"]["cpu"]["LSTM"] == 2
    for timing in results.timings:
        assert len(timing.rounds) == 2
        assert all(len(times) >= 5 and min(times) > 0 for times in timing.rounds)


def test_results_are_written_as_json_and_a_picture(measured: Any, tmp_path: Path) -> None:
    files = save_results(measured[0], tmp_path / "new")
    found = json.loads(files["timings"].read_text())
    assert found["format"] == 2
    assert found["environment"]["packages"]["torch"]
    assert len(found["timings"]) == 9
    assert files["chart"].read_bytes().startswith(b"\x89PNG")


def test_the_table_shows_every_figure(measured: Any) -> None:
    text = format_table(measured[0])
    assert text.count("onnx int8") == 3
    for scenario in measured[0].scenarios:
        assert scenario.name in text


def test_figures_by_hand() -> None:
    results = make_results({"torch": [[4e-3, 4e-3], [8e-3, 8e-3]], "onnx fp32": [[1e-3, 1e-3], [4e-3, 4e-3]]})
    scenario = results.scenarios[0]
    timing = results.timing("onnx fp32", scenario)
    assert timing.seconds == 2.5e-3
    assert timing.tokens_per_second == pytest.approx(400)
    assert timing.spread == pytest.approx(3e-3 / 2.5e-3)
    assert timing.percentile(100) == 2.5e-3
    assert results.speedup("onnx fp32", scenario) == pytest.approx((4 + 2) / 2)
    text = format_table(results)
    assert "3.00 (2.00 to 4.00)" in text
    assert "120%!" in text
    assert "the machine was busy" in text
    steady = make_results({"torch": [[1e-3], [1e-3]]})
    assert "!" not in format_table(steady)


def test_what_is_left_out_is_named() -> None:
    results = make_results({"torch": [[1e-3]]}, left_out={"onnx int8": "dynamic int8 has kernels for the CPU only"})
    assert "not measured: onnx int8: dynamic int8 has kernels for the CPU only" in format_table(results)


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


def test_what_fails_its_verification_is_not_timed(wrong: Run, tmp_path: Path) -> None:
    options = BenchOptions(wrong.artifact("fp32"), batches=(), times=(), rounds=1, seconds=0.02)
    results = run_bench(options, lambda _: None)
    assert list(results.failed) == ["onnx fp32", "onnx int8"]
    assert any("differs by" in reason for reason in results.failed["onnx fp32"])
    assert results.runtimes == ["torch"]
    text = format_table(results)
    assert "onnx fp32  FAILED the verification: not timed" in text
    assert "! onnx fp32: " in text
    assert json.loads(json.dumps(results.to_json()))["failed"] == results.failed
    finished = lmtool("bench", "--model", wrong.artifact("fp32"), "--rounds", 1, "--save", tmp_path / "saved")
    assert finished.returncode == 3
    assert "FAILED the verification" in finished.stdout
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["bench.json", "bench.png"]


def test_results_without_a_timing_are_saved_without_a_picture(tmp_path: Path) -> None:
    results = make_results({}, failed={"onnx fp32": ["logits differ by 0.3"]})
    assert "! onnx fp32: logits differ by 0.3" in format_table(results)
    assert list(save_results(results, tmp_path)) == ["timings"]


def test_other_runtimes_are_verified_and_measured(run: Run) -> None:
    others = ("openvino-default", "reference")
    options = BenchOptions(run.artifact("fp32"), "cpu", others, batches=(), times=(3,), rounds=1, seconds=0.02)
    results = run_bench(options, lambda _: None)
    assert results.failed == {}
    assert set(results.runtimes) == {*others, "onnx fp32", "onnx int8"} - set(results.left_out)
    assert "reference" in results.runtimes
    for name in set(others) & set(results.left_out):
        assert "pip install" in results.left_out[name]
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
    assert verify_runtime("reference", source)["passed"]
    monkeypatch.setattr(ReferenceEvaluator, "run", wrong)
    found = verify_runtime("reference", source)
    assert not found["passed"]
    assert "logits differs by 1.00e-03" in found["failures"][0]


def test_compiled_torch_is_verified_like_any_other(run: Run) -> None:
    if KINDS["torch-compile"].missing():
        pytest.skip("torch.compile needs a C++ compiler")
    contender = harness.Contender("torch-compile", Source(run.artifact("fp32"), run.path))
    assert harness._verified("torch-compile", contender)["passed"]


def test_a_runtime_that_is_missing_is_named_with_the_remedy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else found(name))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    options = BenchOptions(run.artifact("fp32"), against=("openvino", "torch-compile", "torch"))
    contenders, left_out = harness._contenders(run.artifact("fp32"), options)
    assert list(contenders) == ["torch", "onnx fp32", "onnx int8"]
    assert left_out["openvino"] == "it is not installed; pip install 'lmtool[portability]'"
    assert "needs a C++ compiler" in left_out["torch-compile"]
    assert harness._why_not("reference", "cpu", None) is not None
    assert harness._why_not("openvino", "cuda", run.artifact("fp32")) is not None


def test_a_process_that_dies_is_reported_with_its_last_words(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "_SUITE", Path(__file__).with_name("none.py"))
    with pytest.raises(BenchError, match=r"the process of torch ended with \d+; its last words:(?s:.*)none.py"):
        run_bench(BenchOptions(run.artifact("fp32"), rounds=1), lambda _: None)


def test_an_artifact_without_its_original_says_so(run: Run, tmp_path: Path) -> None:
    lonely = tmp_path / "model.onnx"
    lonely.write_bytes(run.artifact("fp32").read_bytes())
    with pytest.raises(BenchError, match="no PyTorch original beside .*: --model RUN/model.onnx"):
        run_bench(BenchOptions(lonely), lambda _: None)


def test_an_artifact_of_another_training_is_no_sibling(run: Run, tmp_path: Path) -> None:
    artifacts, left_out = harness._artifacts(run.artifact("fp32"), "cpu")
    assert list(artifacts) == ["onnx fp32", "onnx int8"]
    artifacts, left_out = harness._artifacts(run.artifact("fp32"), "cuda")
    assert list(artifacts) == ["onnx fp32"]
    assert list(left_out) == ["onnx int8"]
    with pytest.raises(BenchError, match="cannot run on cuda: dynamic int8"):
        lonely = tmp_path / "model.int8.onnx"
        lonely.write_bytes(run.artifact("int8").read_bytes())
        harness._artifacts(lonely, "cuda")


def test_files_beside_the_model_are_measured_or_named(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    (copy / "foreign.onnx").write_bytes(b"something else")
    (copy / ".model.onnx.tmp.onnx").write_bytes(b"half a file")
    (copy / "second.onnx").write_bytes((copy / "model.onnx").read_bytes())
    artifacts, left_out = harness._artifacts(copy / "model.onnx", "cpu")
    assert list(artifacts) == ["onnx fp32", "onnx int8"]
    assert left_out["foreign.onnx"].startswith("it is no artifact of this lmtool: ")
    assert left_out == {
        "foreign.onnx": left_out["foreign.onnx"],
        "second.onnx": "onnx fp32 is measured from model.onnx",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"provider": "none"}, "provider 'none' is not known"),
        ({"against": ("tf",)}, "runtime 'tf' is not known, expected one of torch, torch-compile, openvino"),
        ({"rounds": 0}, "rounds is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"seconds": 0.0}, "seconds is 0"),
        ({"batches": (0,)}, "size below 1"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        BenchOptions(**options)


def test_scenarios_have_names_and_a_form() -> None:
    assert Scenario.parse("64x1") == Scenario(64, 1)
    names = [Scenario.parse(text).name.partition(":")[0] for text in ("1x1", "64x1", "1x128", "4x35")]
    assert names == ["single-stream", "multi-stream", "chunked", "offline"]
    for text in ("64", "x1", "0x1", "-1x1"):
        with pytest.raises(OptionError):
            Scenario.parse(text)


def test_the_suite_runs_under_plain_pytest(run: Run) -> None:
    suite = Path(harness.__file__).with_name("bench_reading.py")
    command = [sys.executable, "-m", "pytest", *harness.PYTEST_OPTIONS, str(suite), f"--rootdir={suite.parent}"]
    command += ["--benchmark-max-time=0.02", "--shape=2x3", "--artifact"]
    finished = subprocess.run([*command, str(run.artifact("fp32"))], capture_output=True, text=True, cwd=run.path)
    assert finished.returncode == 0, finished.stdout
    assert "bench_reading[2x3]" in finished.stdout


def test_the_demo_chains_everything_and_a_second_time_trains_nothing(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = TrainOptions(preset="ptb-200", data=str(corpus_folder), settings=SETTINGS)
    bench = BenchOptions(rounds=1, seconds=0.02, batches=(2,), times=(3,))
    reporter = Silent()
    demo = run_demo(reporter, lambda _: None, options, bench)
    assert reporter.records[-1]["kind"] == "test"
    assert all(path.is_file() for path in demo.files.values())
    assert demo.exports["fp32"].report.passed
    assert demo.exports["int8"].report.passed
    text = demo.summary()
    for expected in ("word frequencies alone", "closed-loop steps", "speed-up over torch", "text  ", "model  "):
        assert expected in text
    assert json.dumps(demo.to_json())
    again = Silent()
    monkeypatch.setattr("lmtool.bench.demo.run_bench", lambda *_: demo.results)  # timing it twice shows nothing new
    second = run_demo(again, lambda _: None, options, bench)
    assert again.records == []
    assert second.sample == demo.sample

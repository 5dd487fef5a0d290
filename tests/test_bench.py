"""The harness on a tiny artifact: real processes, parity as a gate, honest gaps, and the figures themselves."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from commands import lmtool, started
from handmade import ONE, make_results
from lmtool.bench import (
    BenchError,
    BenchOptions,
    Scenario,
    contenders,
    format_table,
    harness,
    loadgen,
    processes,
    qualifying,
    run_bench,
    run_demo,
    save_results,
)
from lmtool.bench.harness import identify
from lmtool.bench.runtimes import KINDS, Source
from lmtool.bench.turns import Pace
from lmtool.bench.verifying import verify_runtime
from lmtool.model import Checkpoint, Run, TrainOptions
from lmtool.model.network import state_tensors
from lmtool.runtime import ArtifactError, OptionError, Predictor, ProviderError
from pages import Page
from tiny import SETTINGS, Silent

QUICK = Pace(rounds=1, seconds=0.02)
CALLS = [Scenario.parse(text) for text in ("single-stream", "multi-stream:3", "offline:1x4", "load")]


@pytest.fixture(scope="module")
def measured(run: Run) -> Any:
    said: list[str] = []
    return run_bench(BenchOptions(run.artifact("fp32"), scenarios=CALLS, pace=Pace(2, 0.02)), said.append), said


def test_every_runtime_is_verified_then_measured_in_every_scenario(measured: Any) -> None:
    results, said = measured
    assert results.runtimes == ["torch", "onnx fp32", "onnx int8"]
    assert results.scenarios == CALLS
    assert results.is_sound
    assert {name: report["passed"] for name, report in results.parity.items()} == {"onnx fp32": True, "onnx int8": True}
    assert said[:2] == [f"parity of onnx {precision} with the original" for precision in ("fp32", "int8")]
    turns = ["torch", "onnx fp32", "onnx int8", "onnx fp32", "onnx int8", "torch"]
    assert [line.partition(": ")[2] for line in said[2:]] == turns
    assert results.placement["onnx fp32"]["cpu"]["LSTM"] == 2
    assert results.floors["torch"] == results.floors["onnx fp32"]
    for timing in results.timings:
        assert len(timing.rounds) == 2
        assert all(len(found.seconds) >= 5 and min(found.seconds) > 0 for found in timing.rounds)
        assert (timing.tokens_per_second is None) == (timing.scenario.kind == "load")


def test_the_memory_of_each_process_is_its_own(measured: Any) -> None:
    """torch takes a hundred megabytes and more; processes that measure something else must not load it."""
    results = measured[0]
    torch_bytes, onnx_bytes = (results.timing(name, ONE).peak_bytes for name in ("torch", "onnx fp32"))
    if torch_bytes is None:
        pytest.skip("this system does not tell a process's memory as Linux does")
    assert onnx_bytes + 100e6 < torch_bytes
    assert onnx_bytes > 30e6


def test_results_are_written_as_json_a_report_and_a_picture(measured: Any, tmp_path: Path) -> None:
    files = save_results(measured[0], tmp_path / "new")
    found = json.loads(files["timings"].read_text())
    assert found["format"] == 3
    assert found["environment"]["packages"]["torch"]
    assert found["environment"]["tf32"] == {"NVIDIA_TF32_OVERRIDE": "0"}
    assert len(found["timings"]) == 12
    assert files["chart"].read_bytes().startswith(b"\x89PNG")
    page = Page(files["report"].read_text())
    assert page.outside == []
    assert page.text.count("onnx int8") > len(CALLS)


def test_the_table_shows_every_figure(measured: Any) -> None:
    text = format_table(measured[0])
    assert text.count("onnx int8") == 4
    for scenario in measured[0].scenarios:
        assert scenario.name in text


def test_figures_by_hand() -> None:
    results = make_results({"torch": [[4e-3, 4e-3], [8e-3, 8e-3]], "onnx fp32": [[1e-3, 1e-3], [4e-3, 4e-3]]})
    scenario = results.scenarios[0]
    timing = results.timing("onnx fp32", scenario)
    assert timing.seconds == 2.5e-3
    assert timing.tokens_per_second == pytest.approx(400)
    assert timing.spread == pytest.approx(3e-3 / 2.5e-3)
    assert timing.percentile(100) is None
    assert results.speedup("onnx fp32", scenario) == pytest.approx((4 + 2) / 2)
    text = format_table(results)
    assert "3.00 (2.00 to 4.00)" in text
    assert "120%!" in text
    assert "the machine was busy" in text
    assert "less than a millisecond" not in text
    steady = format_table(make_results({"torch": [[2e-3], [2e-3]]}))
    assert "!" not in steady
    short = format_table(make_results({"torch": [[9e-4], [9e-4]]}))
    assert "900 us~" in short
    assert "! ~: a call takes less than a millisecond" in short


def test_outliers_are_kept_and_counted() -> None:
    usual = [1e-3 + index * 1e-6 for index in range(19)]
    timing = make_results({"torch": [[*usual, 9e-3], usual]}).timings[0]
    assert [found.outliers for found in timing.rounds] == [1, 0]
    assert timing.outliers == pytest.approx(1 / 39)
    assert timing.longest == 9e-3
    assert timing.percentile(95) == pytest.approx(np.percentile([*usual, 9e-3, *usual], 95))
    assert timing.percentile(99) is None  # of 39 calls none can be said to be the slowest hundredth
    text = format_table(make_results({"torch": [[*usual, 9e-3], usual]}))
    assert "9.00 ms" in text
    assert "2.6%" in text


def test_where_no_tokens_are_counted_none_are_shown() -> None:
    results = make_results({"torch": [[4e-3]], "onnx fp32": [[2e-3]]}, Scenario("load"))
    assert results.timings[0].tokens_per_second is None
    assert results.speedup("onnx fp32", Scenario("load")) == pytest.approx(2)
    assert "tokens/s" not in format_table(results)


def test_a_server_that_cannot_be_measured_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [ONE, Scenario("server", rate=5)]
    assert harness._possible(asked) == (asked, {})
    monkeypatch.setattr(loadgen, "missing", lambda: "it is not installed")
    assert harness._possible(asked) == ([ONE], {"server:5": "it is not installed"})


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
    command = ["bench", "--model", wrong.artifact("fp32"), "--rounds", 1, "--scenario", "load", "--json"]
    finished = lmtool(*command, "--save", tmp_path / "saved")
    assert finished.returncode == 3
    found = json.loads(finished.stdout)
    assert list(found["failed"]) == ["onnx fp32", "onnx int8"]
    assert any("differs by" in reason for reason in found["failed"]["onnx fp32"])
    assert [timing["runtime"] for timing in found["timings"]] == ["torch"]
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["bench.html", "bench.json", "bench.png"]


def test_what_failed_is_in_the_table() -> None:
    results = make_results({"torch": [[1e-3]]}, failed={"onnx fp32": ["logits differs by 0.3"]})
    assert not results.is_sound
    text = format_table(results)
    assert "onnx fp32  FAILED the verification: not timed" in text
    assert "! onnx fp32: logits differs by 0.3" in text


def test_results_without_a_timing_are_saved_without_a_picture(tmp_path: Path) -> None:
    results = make_results({}, failed={"onnx fp32": ["logits differ by 0.3"]})
    assert "! onnx fp32: logits differ by 0.3" in format_table(results)
    assert list(save_results(results, tmp_path)) == ["timings", "report"]


@pytest.mark.portability
def test_other_runtimes_are_verified_and_measured(run: Run) -> None:
    others = ("openvino-default", "reference")
    scenarios = [Scenario.parse(text) for text in ("offline:1x3", "prefill:2x3", "generation:2x3", "first-step")]
    options = BenchOptions(run.artifact("fp32"), against=others, scenarios=scenarios, pace=QUICK)
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
    contender = contenders.Contender("torch-compile", Source(run.artifact("fp32"), run.path))
    assert processes.verified(contender)["passed"]


def test_a_runtime_that_is_missing_is_named_with_the_remedy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else found(name))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    against = ("openvino", "torch-compile", "torch")
    found, left_out = contenders.find_contenders(run.artifact("fp32"), ["cpu"], against, 1)
    assert list(found) == ["torch", "onnx fp32", "onnx int8"]
    assert left_out["openvino"] == "it is not installed; pip install 'lmtool[portability]'"
    assert "needs a C++ compiler" in left_out["torch-compile"]
    assert "it runs fp32 artifacts" in str(contenders.why_not("reference", "cpu", None, run.path))
    assert "on the processor only" in str(contenders.why_not("openvino", "cuda", run.artifact("fp32"), run.path))
    assert "no PyTorch original" in str(contenders.why_not("torch", "cpu", None, run.artifact("fp32")))
    assert "no torch beside openvino" in str(contenders.why_not("torch", "openvino", None, run.path))


def test_providers_stand_side_by_side(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found, left_out = contenders.find_contenders(
        run.artifact("fp32"), ["cpu", "cuda", "cpu"], ("torch", "reference"), 1
    )
    assert list(found) == ["torch", "reference", "onnx fp32", "onnx int8", "torch on cuda", "onnx fp32 on cuda"]
    assert {name: contender.source.provider for name, contender in found.items()} == {
        **dict.fromkeys(["torch", "reference", "onnx fp32", "onnx int8"], "cpu"),
        **dict.fromkeys(["torch on cuda", "onnx fp32 on cuda"], "cuda"),
    }
    assert set(left_out) == {"reference on cuda", "onnx int8 on cuda"}
    assert [name for name, contender in found.items() if contender.is_original] == ["torch"]


KILLED = """
import os, signal, sys

arguments = " ".join(sys.orig_argv)
if "verifying --runtime=reference" in arguments or ("pytest" in arguments and "model.int8.onnx" in arguments):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_runtime_that_crashes_is_reported_and_the_rest_goes_on(place: Path, tmp_path: Path) -> None:
    """One process is killed while it verifies, one while it times."""
    (tmp_path / "sitecustomize.py").write_text(KILLED)
    command = ["bench", "--against", "torch", "--against", "reference", "--scenario", "load", "--rounds", 1, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    finished = started(*command, "--save", tmp_path / "saved", cwd=place, env=environment)
    assert finished.returncode == 3
    found = json.loads(finished.stdout)
    assert list(found["crashed"]) == ["reference", "onnx int8"]
    for said in found["crashed"].values():
        assert said.startswith("the process was killed by SIGKILL; its last words:")
    assert [timing["runtime"] for timing in found["timings"]] == ["torch", "onnx fp32"]
    assert (tmp_path / "saved" / "bench.json").exists()


def test_what_crashed_is_in_the_table() -> None:
    results = make_results({"torch": [[1e-3]]}, crashed={"reference": "the process was killed by SIGKILL"})
    assert not results.is_sound
    text = format_table(results)
    assert "reference  CRASHED: not timed" in text
    assert "! reference: the process was killed by SIGKILL" in text


def test_a_process_that_fails_is_reported_with_its_last_words(run: Run, tmp_path: Path) -> None:
    contender = contenders.Contender("reference", Source(tmp_path / "none.onnx", run.path))
    with pytest.raises(processes.CrashError, match=r"the process ended with 1; its last words:(?s:.*)none\.onnx"):
        processes.timed(contender, [ONE], 0.02)
    with pytest.raises(processes.RefusedError, match=r"none\.onnx") as refused:
        processes.verified(contender)
    assert not refused.value.by_provider


def test_an_artifact_without_its_original_is_verified_against_the_reference(run: Run, tmp_path: Path) -> None:
    lonely = tmp_path / "model.onnx"
    lonely.write_bytes(run.artifact("fp32").read_bytes())
    server = Scenario.parse("server:100")
    pace = Pace(1, 0.02, server_seconds=0.5)
    results = run_bench(BenchOptions(lonely, scenarios=[Scenario("load"), server], pace=pace), lambda _: None)
    assert results.runtimes == ["onnx fp32"]
    assert results.scenarios == [Scenario("load"), server]
    (served,) = results.timing("onnx fp32", server).rounds
    assert 20 < len(served.seconds) < 100
    assert served.requests_per_second == pytest.approx(100, rel=0.5)
    assert served.problems  # so few requests prove nothing
    assert "not valid: " in format_table(results)
    assert "onnx.reference" in results.parity["onnx fp32"]["original"]
    assert results.left_out["torch"].startswith("there is no PyTorch original beside the model")


def test_a_file_from_elsewhere_that_keeps_the_contract_is_measured(run: Run, tmp_path: Path) -> None:
    foreign = tmp_path / "theirs.onnx"
    model = onnx.load(run.artifact("fp32"))
    del model.metadata_props[:]
    onnx.save(model, foreign)
    (tmp_path / "other.onnx").write_bytes(run.artifact("int8").read_bytes())
    against = ("torch", "reference")
    options = BenchOptions(foreign, against=against, scenarios=[ONE], pace=QUICK)
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
    artifacts, left_out = contenders.find_artifacts(run.artifact("fp32"), "cpu")
    assert list(artifacts) == ["fp32", "int8"]
    artifacts, left_out = contenders.find_artifacts(run.artifact("fp32"), "cuda")
    assert list(artifacts) == ["fp32"]
    assert list(left_out) == ["onnx int8 on cuda"]
    with pytest.raises(ProviderError, match="cannot run on cuda: dynamic int8"):
        lonely = tmp_path / "model.int8.onnx"
        lonely.write_bytes(run.artifact("int8").read_bytes())
        contenders.find_artifacts(lonely, "cuda")


def test_files_beside_the_model_are_measured_or_named(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    (copy / "foreign.onnx").write_bytes(b"something else")
    (copy / ".model.onnx.tmp.onnx").write_bytes(b"half a file")
    (copy / "second.onnx").write_bytes((copy / "model.onnx").read_bytes())
    artifacts, left_out = contenders.find_artifacts(copy / "model.onnx", "cpu")
    assert list(artifacts) == ["fp32", "int8"]
    assert left_out["foreign.onnx"].startswith("it is no artifact of this lmtool: ")
    assert left_out == {
        "foreign.onnx": left_out["foreign.onnx"],
        "second.onnx": "onnx fp32 is measured from model.onnx",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"providers": ("none",)}, "provider 'none' is not known"),
        ({"against": ("tf",)}, "runtime 'tf' is not known, expected one of torch, torch-compile, openvino"),
        ({"threads": 0}, "threads is 0"),
        ({"scenarios": ()}, "there is no scenario"),
        ({"providers": ()}, "there is no provider"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        BenchOptions(**options)


@pytest.mark.parametrize(
    ("pace", "message"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"seconds": 0.0}, "seconds is 0"),
        ({"server_seconds": float("nan")}, "server_seconds is nan"),
        ({"latency_bound": -1.0}, "latency_bound is -1"),
    ],
)
def test_a_pace_out_of_range(pace: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Pace(**pace)


def test_a_process_that_does_not_end_is_stopped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PATIENCE_SECONDS", 0.5)
    with pytest.raises(processes.CrashError, match="did not end within 0.5 seconds and was stopped"):
        processes.verified(contenders.Contender("reference", Source(run.artifact("fp32"), run.path)))


def test_what_a_runtime_refuses_is_left_out_and_not_a_crash(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> dict[str, Any]:
        raise processes.RefusedError("it cannot compile that", by_provider=False)

    monkeypatch.setattr(qualifying, "verified", refuse)
    found, _ = contenders.find_contenders(run.artifact("fp32"), ["cpu"], ("reference",), 1)
    qualified = qualifying.qualify(found, lambda _: None)
    assert qualified.left_out["reference"] == "it cannot compile that"
    assert qualified.crashed == {}
    with pytest.raises(BenchError, match="it cannot compile that"):
        qualifying.qualify(found, lambda _: None, required=run.artifact("fp32"))


def test_a_wrong_number_in_a_size_that_is_timed_is_noticed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual sizes end at 16 streams."""
    source, step = Source(run.artifact("fp32"), run.path), Predictor.step

    def wrong(self: Predictor, token_ids: Any, *args: Any, **options: Any) -> Any:
        logits, state = step(self, token_ids, *args, **options)
        return (logits + np.float32(1e-3) if len(token_ids) == 40 else logits), state

    monkeypatch.setattr(Predictor, "step", wrong)
    assert verify_runtime("onnxruntime", source)["passed"]
    found = verify_runtime("onnxruntime", source, [(40, 1)])
    assert "batch 40, time 1" in found["failures"][0]


def test_what_torch_does_in_each_scenario_ends_in_the_state_of_the_predictor(run: Run, predictor: Predictor) -> None:
    source = Source(run.artifact("fp32"), run.path)
    ours, theirs = (KINDS[name].make(source) for name in ("onnxruntime", "torch"))
    tokens = np.random.default_rng(0).integers(0, ours.vocabulary_size, (3, 5))
    for work in (
        lambda runtime, state: runtime.read(tokens, state),
        lambda runtime, state: runtime.prefill(tokens, state),
        lambda runtime, state: runtime.score(tokens, tokens, state),
        lambda runtime, state: runtime.generate(tokens[:, :1], 4, state),
    ):
        found = state_tensors(work(theirs, theirs.initial_state(3)))
        expected = work(ours, ours.initial_state(3))
        for name, tensor in zip(predictor.artifact.architecture.states, expected.tensors, strict=True):
            np.testing.assert_allclose(found[name].numpy(), tensor, atol=1e-5)


def test_the_suite_runs_under_plain_pytest(run: Run) -> None:
    """As the plugin's documentation says, inside a project whose own options disable benchmarks."""
    (run.path / "pytest.ini").write_text("[pytest]\naddopts = --benchmark-disable\n")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "lmtool.bench.plugin", "--benchmark-enable"]
    command += [str(Path(processes.__file__).with_name("bench_calls.py")), "--benchmark-max-time=0.02"]
    command += ["--import-mode=importlib", "--scenario=offline:2x3", "--artifact", str(run.artifact("fp32"))]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=run.path)
    (run.path / "pytest.ini").unlink()
    assert finished.returncode == 0, finished.stdout
    assert "bench_call[offline:2x3]" in finished.stdout
    assert "OPS" in finished.stdout


def test_the_demo_chains_everything_and_a_second_time_trains_nothing(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = TrainOptions(preset="ptb-200", data=str(corpus_folder), settings=SETTINGS)
    scenarios = [Scenario.parse(text) for text in ("single-stream", "multi-stream:2", "offline:1x3")]
    bench = BenchOptions(pace=QUICK, scenarios=scenarios)
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

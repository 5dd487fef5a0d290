"""The harness on a tiny artifact: real launch, every scenario, and the figures themselves."""

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.bench import (
    BenchError,
    BenchOptions,
    Round,
    Scenario,
    Timing,
    benchmark,
    format_table,
    rounds,
    run_bench,
    run_demo,
    save_results,
)
from lmtool.bench.backends.registry import BACKENDS
from lmtool.bench.backends.source import Source
from lmtool.bench.benchmark_run import run_benchmark
from lmtool.bench.candidates import Candidate
from lmtool.bench.demo import DemoStep
from lmtool.bench.regression.gate import RegressionGate
from lmtool.bench.rounds import Schedule, TimingTask
from lmtool.bench.verification import VerificationResults
from lmtool.bench.workers import launch
from lmtool.bench.workers.interpreter import Interpreter, find_interpreter
from lmtool.bench.workers.launch import ClockError, RoundResult, run_timing_job
from lmtool.bench.workers.plugin import PEAK
from lmtool.model import Run, TrainOptions
from lmtool.model.network import state_tensors
from lmtool.runtime import OptionError, Predictor
from lmtool.runtime.io.files import json_text
from support.models.results import ONE, make_results
from support.runs.reporters import RecordingReporter
from support.runs.settings import SETTINGS
from support.scale import torture_only
from support.web.pages import Page

QUICK = Schedule(rounds=1, seconds_per_scenario=0.02)


APPLICATIONS = [Scenario.parse(text) for text in ("generation:4", "suggest", "pool:3x4")]
CALLS = [
    *(Scenario.parse(text) for text in ("single-stream", "multi-stream:3", "offline:1x4")),
    *APPLICATIONS,
    Scenario("load"),
]


@pytest.fixture(scope="module")
def measured(run: Run) -> Any:
    progress: list[str] = []
    return run_bench(BenchOptions(run.artifact("fp32"), scenarios=CALLS, schedule=QUICK), progress.append), progress


def test_every_runtime_is_verified_then_measured_in_every_scenario(measured: Any) -> None:
    results, progress = measured
    assert results.runtimes == ["torch", "onnx fp32", "onnx int8"]
    assert results.scenarios == CALLS
    assert results.is_sound
    assert {name: report["passed"] for name, report in results.parity.items()} == {"onnx fp32": True, "onnx int8": True}
    assert progress[:2] == [f"parity of onnx {precision}" for precision in ("fp32", "int8")]
    assert sorted(line.partition(": ")[2] for line in progress[2:]) == sorted(results.runtimes)
    assert results.placement["onnx fp32"]["cpu"]["LSTM"] == 2
    assert results.rooflines["torch"] == results.rooflines["onnx fp32"]
    for timing in results.timings:
        assert len(timing.rounds) == 1
        assert all(len(each.call_seconds) >= 5 and min(each.call_seconds) > 0 for each in timing.rounds)
        assert (timing.tokens_per_second is None) == (timing.scenario.kind in ("load", "suggest"))


def test_a_call_of_an_application_stands_beside_bare_calls_of_the_session(measured: Any) -> None:
    results = measured[0]
    for timing in results.timings:
        (each,) = timing.rounds
        if timing.scenario not in APPLICATIONS:
            assert (each.bare_seconds, timing.bare_ratio) == ((), None)
            continue
        assert len(each.bare_seconds) == len(each.call_seconds)
        least = 0.02 if timing.scenario.kind == "suggest" else 0.2  # a suggestion needs few of its bare calls
        assert least < timing.bare_ratio.value == pytest.approx(each.undisturbed / each.bare_undisturbed)
        again = Timing.from_json(json.loads(json_text(timing.to_json())))
        assert again.bare_ratio.value == pytest.approx(timing.bare_ratio.value)
    text = format_table(results)
    assert text.count(" to bare ") == len(APPLICATIONS)
    assert "bare: the session calls that it needs" in " ".join(text.split())
    assert "so it may take less (to bare below 1)" in " ".join(text.split())


def test_each_round_has_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "run_timing_job", lambda *_: RoundResult({ONE: Round([1e-3])}))
    tasks = {name: TimingTask(Candidate(name, Source(Path("model.onnx"))), [ONE]) for name in ("a", "b", "c")}
    lines: list[str] = []
    measurements = rounds.run_rounds(tasks, Schedule(rounds=60), lines.append)
    turns = [line.partition(": ")[2] for line in lines]
    orders = ["".join(turns[start : start + 3]) for start in range(0, len(turns), 3)]
    assert set(orders) == {"abc", "acb", "bac", "bca", "cab", "cba"}
    assert [len(timing.rounds) for timing in measurements.timings] == [60, 60, 60]


def test_rounds_go_on_while_something_is_not_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "run_timing_job", lambda *_: RoundResult({ONE: Round([1e-3])}))
    tasks = {"a": TimingTask(Candidate("a", Source(Path("model.onnx"))), [ONE])}
    schedule, lines = Schedule(rounds=2, max_rounds=7), list[str]()
    assert len(rounds.run_rounds(tasks, schedule, lines.append).timings[0].rounds) == 2
    open_until = {2: ["x", "y"], 4: []}
    measurements = rounds.run_rounds(tasks, schedule, lines.append, lambda so_far: open_until[_rounds(so_far)])
    assert _rounds(measurements) == 4
    assert "not decided after 2 rounds: x; y" in lines
    assert _rounds(rounds.run_rounds(tasks, schedule, lines.append, lambda _: ["x"])) == 7
    assert lines[-1] == "round 7 of 7: a"


def _rounds(measurements: rounds.Measurements) -> int:
    return len(measurements.timings[0].rounds)


def test_the_same_versions_in_turns_are_no_slower(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "verify_candidates", lambda all_of_them, *_: VerificationResults(all_of_them))
    lonely = tmp_path / "model.onnx"
    shutil.copy(run.artifact("fp32"), lonely)
    options = BenchOptions(lonely, against=(), scenarios=[ONE], schedule=QUICK, before=Path(sys.executable))
    finished = run_benchmark(options, None, RegressionGate(), lambda _: None)
    assert finished.results.runtimes == ["onnx fp32"]
    assert [timing.runtime for timing in finished.results.before] == ["onnx fp32"]
    assert finished.comparison is not None
    assert [change.runtime for change in finished.comparison.changes] == ["onnx fp32"]
    assert finished.comparison.missing == []
    assert "in turns with lmtool " in finished.format()
    assert json.loads((tmp_path / "bench.json").read_text())["before"][0]["rounds"]
    assert dataclasses.replace(finished.comparison, allowed=50.0).failures == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, "is no Python interpreter, expected one, or the folder of a virtual environment"),
        ("#!/bin/sh\necho no module named lmtool >&2\nexit 1\n", "cannot run benchmarks: no module named lmtool; in "),
        ("not a program", "cannot run: "),
        (
            "#!/bin/sh\necho '{}'\n",
            "the lmtool of .*python takes other jobs than this one, so the two cannot be measured in turns; ",
        ),
    ],
)
def test_an_environment_without_benchmarks(tmp_path: Path, script: str | None, message: str) -> None:
    path = tmp_path / "python"
    if script is not None:
        path.write_text(script)
        path.chmod(0o755)
    with pytest.raises(BenchError, match=message):
        find_interpreter(path)


def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify nothing, and time nothing."""
    monkeypatch.setattr(benchmark, "verify_candidates", lambda all_of_them, *_: VerificationResults(all_of_them))
    monkeypatch.setattr(rounds, "run_timing_job", lambda *_: RoundResult({ONE: Round([1e-3])}))


def test_what_the_earlier_environment_lacks_is_not_measured_there(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_processes(monkeypatch)
    lacking = Interpreter(sys.executable, {"lmtool": "0.0.9"}, {"onnxruntime": "it is not installed; pip install it"})
    monkeypatch.setattr(benchmark, "find_interpreter", lambda *_: lacking)
    options = BenchOptions(run.artifact("fp32"), against=(), scenarios=[ONE], schedule=QUICK, before=tmp_path)
    results = run_bench(options, lambda _: None)
    assert results.is_sound
    assert results.before == []
    assert results.skipped["onnx fp32, before"] == "it is not installed; pip install it"


def test_times_are_told_before_a_later_part_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    without_processes(monkeypatch)
    monkeypatch.setattr(benchmark, "run_profiles", fails)
    options = BenchOptions(run.artifact("fp32"), against=(), scenarios=[ONE], schedule=QUICK, profile=True)
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_bench(options, lines.append)
    assert lines[-1].startswith("single-stream: batch 1, one token a call")


def test_a_turn_whose_clock_jumps_is_repeated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"param": "single-stream", "stats": {"data": [1e-3, -2.0]}, "extra_info": {PEAK: None}}
    monkeypatch.setattr(launch, "_run_job", lambda *_, **__: {"benchmarks": [entry]})
    candidate = Candidate("torch", Source(Path("model.onnx")))
    with pytest.raises(ClockError, match="single-stream: a call took -2.0 s: the clock jumped; measure again"):
        run_timing_job(candidate, [ONE], 0.1)
    lines: list[str] = []
    tasks = {"torch": TimingTask(candidate, [ONE])}
    assert "the clock jumped" in rounds.run_rounds(tasks, QUICK, lines.append).crashed["torch"]
    assert [line[:20] for line in lines] == ["round 1 of 1: torch", "round 1 of 1: again:"]


def test_the_memory_of_each_process_is_its_own(measured: Any) -> None:
    """torch takes a hundred megabytes and more; processes that measure something else must not load it."""
    results = measured[0]
    torch_bytes, onnx_bytes = (results.timing(name, ONE).peak_bytes for name in ("torch", "onnx fp32"))
    if torch_bytes is None:
        pytest.skip("this system does not report a process's memory as Linux does")
    assert onnx_bytes + 100e6 < torch_bytes
    assert onnx_bytes > 30e6


def test_results_are_written_as_json_a_report_and_a_picture(measured: Any, tmp_path: Path) -> None:
    files = save_results(measured[0], tmp_path / "new")
    saved = json.loads(files["timings"].read_text())
    assert saved["format"] == 6
    assert saved["environment"]["packages"]["torch"]
    assert saved["environment"]["tf32"] == {"NVIDIA_TF32_OVERRIDE": "0"}
    assert len(saved["timings"]) == 21
    assert files["chart"].read_bytes().startswith(b"\x89PNG")
    page = Page(files["report"].read_text())
    assert page.outside == []
    assert page.text.count("onnx int8") > len(CALLS)


def test_the_table_shows_every_figure(measured: Any) -> None:
    text = format_table(measured[0])
    assert text.count("onnx int8") == 7
    for scenario in measured[0].scenarios:
        assert scenario.named() in text


def test_figures_by_hand() -> None:
    results = make_results({"torch": [[4e-3] * 3, [8e-3] * 3], "onnx fp32": [[1e-3] * 3, [4e-3] * 3]})
    scenario = results.scenarios[0]
    timing = results.timing("onnx fp32", scenario)
    assert timing.median_seconds == 4e-3  # of six calls the fourth, by LoadGen's rank
    assert timing.tokens_per_second == pytest.approx(250)
    assert timing.spread == pytest.approx(3e-3 / 2.5e-3)
    assert list(timing.percentiles) == [50]
    speedup = results.speedup("onnx fp32", scenario)
    assert speedup.value == pytest.approx((4 * 2) ** 0.5)
    width = 12.706 * math.log(4 / 2) / 2  # Student's t of 97.5 % with one degree of freedom
    assert (speedup.low, speedup.high) == pytest.approx((8**0.5 * math.exp(-width), 8**0.5 * math.exp(width)), rel=1e-3)
    text = format_table(results)
    assert f"2.83 ({speedup.low:.2f} to {speedup.high:.2f})" in text
    assert "%!" in text
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
    assert [each.outliers for each in timing.rounds] == [1, 0]
    assert timing.outliers == pytest.approx(1 / 39)
    assert timing.longest == 9e-3
    assert list(timing.percentiles) == [50]  # of 39 calls none is known to lie beyond the 95th
    many = make_results({"torch": [usual * 3, usual * 2]}).timings[0]
    assert list(many.percentiles) == [50, 95]
    assert many.percentiles[95].value == max(usual)
    assert many.tail_seconds is None
    assert make_results({"torch": [usual * 13, usual * 12]}).timings[0].tail_seconds == max(usual)
    text = format_table(make_results({"torch": [[*usual, 9e-3], usual]}))
    assert "9.00 ms" in text
    assert "2.6%" in text


def test_scenarios_without_tokens_show_no_throughput() -> None:
    results = make_results({"torch": [[4e-3]], "onnx fp32": [[2e-3]]}, Scenario("load"))
    assert results.timings[0].tokens_per_second is None
    assert results.speedup("onnx fp32", Scenario("load")).value == pytest.approx(2)
    assert "tokens/s" not in format_table(results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"providers": ("none",)}, "provider 'none' is not known"),
        ({"against": ("tf",)}, "runtime 'tf' is not known, expected one of torch, torch-compile, "),
        ({"threads": 0}, "threads is 0"),
        ({"scenarios": ()}, "there is no scenario"),
        ({"providers": ()}, "there is no provider"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        BenchOptions(**options)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"seconds_per_scenario": 0.0}, "seconds_per_scenario is 0"),
        ({"loadgen_seconds": float("nan")}, "loadgen_seconds is nan"),
        ({"latency_bound": -1.0}, "latency_bound is -1"),
    ],
)
def test_a_schedule_out_of_range(schedule: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Schedule(**schedule)


def test_torch_ends_each_scenario_in_the_state_of_the_predictor(run: Run, predictor: Predictor) -> None:
    source = Source(run.artifact("fp32"), run.path)
    ours, theirs = (BACKENDS[name].load(source) for name in ("onnxruntime", "torch"))
    tokens = np.random.default_rng(0).integers(0, ours.vocabulary_size, (3, 5))
    for work in (
        lambda runtime, state: runtime.read(tokens, state),
        lambda runtime, state: runtime.prefill(tokens, state),
        lambda runtime, state: runtime.score(tokens, tokens, state),
    ):
        states = state_tensors(work(theirs, theirs.initial_state(3)))
        expected = work(ours, ours.initial_state(3))
        for name, tensor in zip(predictor.artifact.architecture.states, expected.tensors, strict=True):
            np.testing.assert_allclose(states[name].numpy(), tensor, atol=1e-5)


def test_the_suite_runs_under_plain_pytest(run: Run) -> None:
    """As the plugin's documentation says, inside a project whose own options disable benchmarks."""
    (run.path / "pytest.ini").write_text("[pytest]\naddopts = --benchmark-disable\n")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "lmtool.bench.workers.plugin", "--benchmark-enable"]
    command += [str(Path(launch.__file__).with_name("bench_calls.py")), "--benchmark-max-time=0.02"]
    command += ["--import-mode=importlib", "--scenario=offline:2x3", "--artifact", str(run.artifact("fp32"))]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    finished = subprocess.run(command, capture_output=True, text=True, cwd=run.path, env=plain)
    (run.path / "pytest.ini").unlink()
    assert finished.returncode == 0, finished.stdout
    assert "bench_call[offline:2x3]" in finished.stdout
    assert "OPS" in finished.stdout


@pytest.mark.parametrize("measures", [False, pytest.param(True, marks=torture_only)])
def test_the_demo_chains_everything_and_a_second_time_trains_nothing(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch, measured: Any, measures: bool
) -> None:
    """Measures nothing itself but under `make torture`: other tests have measured the same."""
    monkeypatch.chdir(tmp_path)
    if not measures:
        results, lines = measured
        monkeypatch.setattr("lmtool.bench.demo.run_bench", lambda _, progress: [results, *map(progress, lines)][0])
    options = TrainOptions(preset="ptb-200", data=str(corpus_folder), settings=SETTINGS, threads=1)
    scenarios = [Scenario.parse(text) for text in ("single-stream", "multi-stream:2", "offline:1x3")]
    bench = BenchOptions(schedule=QUICK, scenarios=scenarios)
    reporter = RecordingReporter()
    steps: list[DemoStep] = []
    demo = run_demo(reporter, steps.append, options, bench)
    assert list(dict.fromkeys(step.title for step in steps)) == [
        "training",
        "exporting and verifying",
        "measuring",
        "writing the report",
    ]
    assert [step.stage for step in steps] == sorted(step.stage for step in steps)
    assert all(step.done < step.total for step in steps)
    measuring = [step for step in steps if step.title == "measuring"]
    assert [step.done for step in measuring] == list(range(measuring[0].total))
    assert reporter.records[-1]["kind"] == "test"
    assert all(path.is_file() for path in demo.files.values())
    assert demo.exports["fp32"].report.passed
    assert demo.exports["int8"].report.passed
    text = demo.summary()
    assert len(text.splitlines()) <= 10
    for expected in ("word frequencies alone", "closed-loop steps", "speed-up over torch", "text  ", "model  "):
        assert expected in text
    assert json.dumps(demo.to_json())
    again = RecordingReporter()
    monkeypatch.setattr("lmtool.bench.demo.run_bench", lambda *_: demo.results)  # timing it twice shows nothing new
    second = run_demo(again, lambda _: None, options, bench)
    assert again.records == []
    assert second.sample == demo.sample

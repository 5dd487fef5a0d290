"""Results beside earlier ones: figures by hand, and the gate with its positive control."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lmtool.bench import BenchError, BenchOptions, Scenario, benchmark_run
from lmtool.bench.regression.comparison import compare_in_turns, compare_runs
from lmtool.bench.regression.earlier_results import read_results, require_same, timings_of
from lmtool.bench.regression.gate import RegressionGate, parse_share
from lmtool.bench.rounds import Schedule
from lmtool.model import Run
from lmtool.runtime import OptionError
from support.models.results import make_results
from support.processes.commands import lmtool, output_of, run_fresh
from support.scale import torture_only

STEADY = {"torch": [[4e-3, 4e-3, 4e-3, 5e-3], [4e-3] * 4, [4.1e-3] * 4], "onnx fp32": [[2e-3] * 3] * 3}


def saved(rounds: dict[str, list[list[float]]], folder: Path) -> dict[str, Any]:
    make_results(rounds).write(folder / "bench.json")
    return read_results(folder / "bench.json")


def test_changes_are_compared_with_their_intervals(tmp_path: Path) -> None:
    before = saved(STEADY, tmp_path)
    torch = [[4.2e-3] * 4, [4.1e-3] * 4, [4.2e-3] * 4]
    now = make_results({"torch": torch, "onnx fp32": [[2.4e-3], [2.41e-3], [2.4e-3]]})
    comparison = compare_runs(timings_of(before), now, None)
    assert [change.runtime for change in comparison.changes] == ["torch", "onnx fp32"]
    assert [change.slower for change in comparison.changes] == pytest.approx([0.033, 0.2], abs=3e-3)
    assert (comparison.failures, comparison.undecided) == ([], [])
    assert "+20.2% (" in comparison.format()
    assert compare_runs(timings_of(before), now, 0.6).failures == []
    tight = compare_runs(timings_of(before), now, 0.1)
    assert [line.partition(":")[0] for line in tight.failures] == ["onnx fp32, single-stream"]
    assert [line.partition(":")[0] for line in tight.undecided] == ["torch, single-stream"]
    assert "~ too close to call: torch, single-stream: " in tight.format()
    assert json.loads(json.dumps(tight.to_json()))["failures"]


def test_rounds_in_turns_take_the_machines_drift_out_of_a_change(tmp_path: Path) -> None:
    """A machine that becomes twice as slow during the run, and a slow-down of 5 %."""
    drift = [1e-3 * (1 + number / 7) for number in range(8)]
    old = make_results({"onnx fp32": [[seconds] * 4 for seconds in drift]})
    now = [1.05 * seconds + 1e-6 * (number % 2) for number, seconds in enumerate(drift)]
    slower = make_results({"onnx fp32": [[seconds] * 4 for seconds in now]})
    in_turns = compare_in_turns(old.timings, slower, 0.0, "earlier versions")
    assert [line.partition(": +5")[0] for line in in_turns.failures] == ["onnx fp32, single-stream"]
    assert "in turns with earlier versions" in in_turns.format()
    old.write(tmp_path / "old.json")
    apart = compare_runs(timings_of(read_results(tmp_path / "old.json")), slower, 0.0)
    assert (apart.failures, len(apart.undecided)) == ([], 1)


def test_a_timing_that_is_missing_now_is_a_failure(tmp_path: Path) -> None:
    before = saved(STEADY, tmp_path)
    comparison = compare_runs(timings_of(before), make_results({"torch": STEADY["torch"]}), 0.1)
    assert comparison.failures == ["onnx fp32, single-stream: measured before, not now"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"providers": ("cuda",)}, r"providers was \['cpu'\], is \['cuda'\]"),
        ({"threads": 2}, "threads was 1, is 2"),
        ({"schedule": {"rounds": 9}}, ""),
        ({"schedule": {"rounds": 1, "loadgen_seconds": 9}}, ""),
        (
            {"schedule": {"rounds": 1, "seconds_per_scenario": 9}},
            "schedule was {'seconds_per_scenario': 0.4}, is {'seconds_per_scenario': 9}",
        ),
        ({"original": "1"}, "original was 0, is 1"),
        (
            {"environment": {"processor": "another", "usable_cores": 2, "gpus": []}},
            "processor was a processor, is another",
        ),
        ({"environment": {"processor": "a processor", "usable_cores": 8, "gpus": []}}, "usable_cores was 2, is 8"),
        (
            {"environment": {"processor": "a processor", "usable_cores": 2, "cpu_quota": 1.5, "gpus": []}},
            "cpu_quota was None, is 1.5",
        ),
        (
            {"environment": {"processor": "a processor", "usable_cores": 2, "gpus": ["T4"]}},
            r"gpus was \[\], is \['T4'\]",
        ),
        ({"artifacts": {"onnx fp32": "0" * 64}}, "the artifact of onnx fp32 was 5eed5eed5eed, is 000000000000"),
    ],
)
def test_results_of_something_else_are_not_compared(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    before = saved(STEADY, tmp_path)
    now = replace(make_results(STEADY).identity, **change)
    if not message:
        return require_same(before, now)
    with pytest.raises(BenchError, match=f"would not belong together: {message}; .*--compare-anyway"):
        require_same(before, now)
    return None


def test_a_gate_that_compares_nothing_is_not_passed(tmp_path: Path) -> None:
    before = saved({}, tmp_path)
    assert compare_runs(timings_of(before), make_results(STEADY), 0.1).failures == ["nothing was measured both times"]
    assert compare_runs(timings_of(before), make_results(STEADY), None).failures == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "format None, expected 6"),
        ('{"format": 5}', "format 5, expected 6"),
        ("text", "it is not JSON"),
        ("[" * 100_000, "it is JSON that nests 100,000 levels deep, expected 100 at most"),
        ('{"format": 6}', "no whole results .KeyError: 'timings'"),
        ('{"format": 6, "timings": [{"runtime": 1, "scenario": "multi-stream:0"}]}', "no whole results"),
        ('{"format": 6, "timings": []}', "no whole results .KeyError: 'providers'"),
        ('{"format": 6, "timings": 5}', "no whole results .TypeError"),
    ],
)
def test_a_file_without_results_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bench.json").write_text(content)
    with pytest.raises(BenchError, match=message):
        read_results(tmp_path / "bench.json")


def test_invalid_times_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    saved(STEADY, tmp_path)
    good = json.loads(path.read_text())
    no_times = "no whole results .ValueError: torch, single-stream: a round has no times, or an invalid one"
    for times, message in (
        ([], no_times),
        ([0.0], no_times),
        ([1.0, -1.0], no_times),
        ([float("nan")], "holds no results: it is JSON with NaN, expected finite numbers"),
    ):
        good["timings"][0]["rounds"][0]["call_seconds"] = times
        path.write_text(json.dumps(good))
        with pytest.raises(BenchError, match=message):
            read_results(path)


def test_a_server_is_compared_by_its_tail_and_its_validity(tmp_path: Path) -> None:
    server = Scenario("server", rate=9)
    make_results({"torch": [[1e-3] * 190 + [2e-3] * 10] * 3}, server).write(tmp_path / "bench.json")
    before = read_results(tmp_path / "bench.json")
    slow = compare_runs(timings_of(before), make_results({"torch": [[1e-3] * 150 + [9e-3] * 50] * 3}, server), 0.1)
    assert [change.after for change in slow.changes] == [pytest.approx(9e-3)]
    assert len(slow.failures) == 1
    same = make_results({"torch": [[1e-3] * 190 + [2e-3] * 10] * 3}, server)
    assert compare_runs(timings_of(before), same, 0.1).failures == []
    (timing,) = same.timings
    invalid = replace(timing, rounds=[replace(timing.rounds[0], invalid_reasons=["too late"])])
    failures = compare_runs(timings_of(before), replace(same, timings=[invalid]), 0.1).failures
    assert failures == [f"torch, {server}: not valid any more: too late"]


def test_a_share_is_a_percentage() -> None:
    assert parse_share("10%") == pytest.approx(0.1)
    assert parse_share("0%") == 0
    for text in ("10", "-1%", "x%", "%", "10%x", "nan%", "inf%"):
        with pytest.raises(OptionError, match="is no percentage"):
            parse_share(text)


SLOW = """
import json, sys, time

jobs = [json.loads(option.removeprefix("--job=")) for option in sys.orig_argv if option.startswith("--job=")]
if any(job["source"]["artifact"].endswith("/model.onnx") for job in jobs):
    from lmtool.runtime.session.host import HostRunner

    quick = HostRunner.run

    def slow(*arguments):
        time.sleep(0.005)
        return quick(*arguments)

    HostRunner.run = slow
"""


def test_a_failed_gate_does_not_replace_the_results_it_compares_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slower = make_results({**STEADY, "onnx fp32": [[4e-3]] * 3})
    saved(STEADY, tmp_path)
    content = (tmp_path / "bench.json").read_bytes()
    monkeypatch.setattr(benchmark_run, "identify", lambda _: slower.identity)
    monkeypatch.setattr(benchmark_run, "run_bench", lambda *_: slower)
    gate = RegressionGate.from_file(tmp_path / "bench.json", 0.5)
    options = BenchOptions(model=slower.model)
    failed = benchmark_run.run_benchmark(options, tmp_path, gate, lambda _: None)
    assert not failed.passed
    assert (tmp_path / "bench.json").read_bytes() == content
    assert json.loads((tmp_path / "bench.failed.json").read_text())["timings"]
    assert (tmp_path / "bench.failed.html").exists()
    passed = benchmark_run.run_benchmark(options, tmp_path, replace(gate, allowed=2.0), lambda _: None)
    assert passed.passed
    assert (tmp_path / "bench.json").read_bytes() != content


def test_a_gate_wants_earlier_results_whose_spread_is_known(tmp_path: Path) -> None:
    saved({"torch": [[4e-3]]}, tmp_path)
    path = tmp_path / "bench.json"
    assert RegressionGate.from_file(path).allowed is None
    with pytest.raises(BenchError, match="holds results of 1 round, expected 2 or more, so that their spread is known"):
        RegressionGate.from_file(path, 0.1)
    schedule = Schedule(rounds=3)
    assert RegressionGate(allowed=0.1).schedule(schedule).looks == [3, 6, 12, 24]
    assert RegressionGate().schedule(schedule).looks == [3]
    assert RegressionGate(allowed=0.1).schedule(Schedule(3, max_rounds=4)).looks == [3, 4]


@torture_only
def test_a_planted_slow_down_is_caught_and_does_not_replace_the_earlier_results(run: Run, tmp_path: Path) -> None:
    """Five milliseconds in every call of the fp32 artifact, which the int8 one does not have; neither has its run."""
    for precision in ("fp32", "int8"):
        shutil.copy(run.artifact(precision), tmp_path)
    measure = ["bench", "--model", tmp_path / "model.onnx", "--rounds", 2, "--scenario", "single-stream"]
    output_of(*measure)
    earlier = tmp_path / "bench.json"
    content = earlier.read_bytes()
    gate = [*measure, "--compare", earlier, "--fail-if-slower", "900%"]
    refused = lmtool(*gate, "--threads", 2)
    assert refused.returncode == 1
    assert "threads was 1, is 2" in refused.stderr
    assert "parity" not in refused.stderr  # nothing was measured in vain
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    finished = run_fresh(*gate, "--json", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert finished.returncode == 3, finished.stderr
    comparison = json.loads(finished.stdout)["comparison"]
    assert [change["runtime"] for change in comparison["changes"]] == ["onnx fp32", "onnx int8"]
    assert [failure.partition(",")[0] for failure in comparison["failures"]] == ["onnx fp32"]
    assert earlier.read_bytes() == content
    assert json.loads((tmp_path / "bench.failed.json").read_text())["timings"]
    assert (tmp_path / "bench.failed.html").exists()

"""A history of benchmarks: its files, its rule, its page; pytest-benchmark, two writers, a full disk."""

import json
import math
import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import change_points
import numpy as np
import pytest
from lmtool.bench import BenchOptions, Results, benchmark_run
from lmtool.bench.history import run as history_run
from lmtool.bench.history.history import History, HistoryReport
from lmtool.bench.history.storage import HistoryStorage
from lmtool.bench.statistics import change_point
from lmtool.bench.statistics.change_point import find_changes
from lmtool.runtime import OptionError, StorageError
from pytest_benchmark import cli
from pytest_benchmark.logger import Logger
from pytest_benchmark.storage.file import FileStorage
from pytest_benchmark.utils import get_machine_id
from support.models.results import make_results

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _quick_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_run, "pytest_benchmark_generate_machine_info", lambda: {"node": "n"})
    monkeypatch.setattr(history_run, "get_commit_info", lambda: {"id": "5eed", "time": None, "dirty": False})


def results(times: dict[str, float], processor: str = "a processor", **packages: str) -> Results:
    """Three rounds of each runtime that differ by 1 %."""
    rounds = {name: [[factor * seconds] * 4 for factor in (0.99, 1, 1.01)] for name, seconds in times.items()}
    made = make_results(rounds)
    environment = {"processor": processor, "usable_cores": 2, "gpus": [], "packages": {"lmtool": "0.1.0", **packages}}
    return replace(made, identity=replace(made.identity, environment=environment))


def write(folder: Path, made: Results, time: datetime = START) -> str:
    path = HistoryStorage(folder).append(history_run.to_json(made, time))
    return path.relative_to(folder).as_posix()


def fill(folder: Path, factors: list[float], first: int = 0) -> None:
    """A run a day; int8 takes `factors`, torch does not change; onnxruntime is new from the seventh run on."""
    noise = random.Random(first)
    for index, factor in enumerate(factors, first):
        times = {name: 1e-3 * noise.gauss(1, 0.01) for name in ("torch", "onnx int8")}
        times["onnx int8"] *= factor
        version = "1.31.1" if index >= 6 else "1.30.0"
        write(folder, results(times, onnxruntime=version), START + timedelta(days=index))


def report(folder: Path, allowed: float | None = None) -> HistoryReport:
    stored = HistoryStorage(folder).read()
    return HistoryReport(folder, stored, stored.runs[-1].name, allowed)


def test_a_slow_down_is_named_with_its_run_and_its_versions(tmp_path: Path) -> None:
    fill(tmp_path, [1.0] * 6 + [1.12] * 5)
    found = report(tmp_path, 0.05)
    text = found.format()
    slower, unchanged = text.splitlines()[1:3]
    assert slower.startswith("  onnx int8, single-stream: 1")
    assert slower.endswith(" since run 7 of 2026-11-07: lmtool 0.1.0, onnxruntime 1.30.0 -> 1.31.1")
    assert unchanged == "  no change is certain in 11 runs: torch in single-stream"
    assert len(found.failures) == 1
    assert "! slower: onnx int8, single-stream: " in text
    assert report(tmp_path, 0.2).failures == []
    series = json.loads(json.dumps(found.to_json()))["series"]
    (change,) = series[1]["changes"]
    assert change["run"] == 7
    assert change["versions"] == {"onnxruntime": ["1.30.0", "1.31.1"]}
    assert change["ratio"]["low"] < 1.12 < change["ratio"]["high"]
    assert change["confidence"] > 0.999


def test_a_slow_down_that_was_mended_passes_the_gate_and_stays_named(tmp_path: Path) -> None:
    fill(tmp_path, [1.0] * 8 + [1.3] * 8 + [1.0] * 8)
    found = report(tmp_path, 0.0)
    assert [line.split("since")[1][:7] for line in found.format().splitlines()[1:3]] == [" run 9 ", " run 17"]
    assert found.failures == []


def test_few_runs_tell_nothing(tmp_path: Path) -> None:
    fill(tmp_path, [1.0, 1.0, 1.0, 2.0, 2.0])
    assert "5 runs, too few to tell: a change needs 3 before it and 3 after: torch in" in report(tmp_path, 0.1).format()
    assert report(tmp_path, 0.1).failures == []


def test_a_single_slow_run_is_no_change(tmp_path: Path) -> None:
    fill(tmp_path, [1.0] * 5 + [1.5] + [1.0] * 5)
    assert "no change is certain" in report(tmp_path).format()
    assert [(change.first, change.certain) for change in find_changes([1.0] * 6 + [1.1] * 6)] == [(6, 9)]
    assert find_changes([0.1 + 0.2] * 12) == []


def test_another_machine_has_another_series(tmp_path: Path) -> None:
    fill(tmp_path, [1.0] * 6)
    for day in range(6):
        write(tmp_path, results({"torch": 2e-3}, processor="a slow one"), START + timedelta(days=9, hours=day))
    found = report(tmp_path, 0.0)
    assert [len(series.points) for series in found.current] == [6]
    assert "2 series of another machine, setting, artifact or scenario are kept apart" in found.format()
    assert found.failures == []


def test_a_clock_that_goes_backwards_does_not_change_the_order(tmp_path: Path) -> None:
    names = [write(tmp_path, results({"torch": 1e-3}), START - timedelta(days=day)) for day in range(3)]
    found = report(tmp_path)
    assert [run.name for run in found.stored.runs] == names
    assert "~ run 2 is dated before run 1: the clock went backwards; numbers give the order" in found.format()


def test_damaged_and_foreign_files_are_named_and_left_alone(tmp_path: Path) -> None:
    name = write(tmp_path, results({"torch": 1e-3}))
    good = json.loads((tmp_path / name).read_text())
    place = (tmp_path / name).parent
    bad = json.loads(json.dumps(good))
    bad["benchmarks"][0]["extra_info"]["costs"] = [0.0]
    contents = {
        "0004_half.json": (tmp_path / name).read_bytes()[:999],
        "0005_other.json": json.dumps({"benchmarks": []}).encode(),
        "0006_bad.json": json.dumps(bad).encode(),
        "0007_gpus.json": json.dumps(good | {"lmtool": good["lmtool"] | {"machine": {"gpus": 1}}}).encode(),
        "0007_time.json": json.dumps(good | {"datetime": "0001-01-01T00:00:00+23:00"}).encode(),
        "0007_new.json": json.dumps(good | {"lmtool": {"format": 9}}).encode(),
        "mine.json": b"{}",
    }
    for file, content in contents.items():
        (place / file).write_bytes(content)
    found = History(tmp_path).append(results({"torch": 1e-3}))
    assert [run.number for run in found.stored.runs] == [1, 8]
    reasons = {path.partition("/")[2]: reason for path, reason in found.stored.left_out.items()}
    assert reasons["0004_half.json"].startswith("it is not JSON")
    assert reasons["0005_other.json"] == "lmtool did not write it"
    assert "ValueError: a benchmark has no costs, or an invalid one" in reasons["0006_bad.json"]
    assert "its format is 9, expected 1" in reasons["0007_new.json"]
    assert "the GPUs are no list" in reasons["0007_gpus.json"]
    assert "OverflowError" in reasons["0007_time.json"]
    assert reasons["mine.json"] == "its name has no number, expected NNNN_..."
    assert all((place / file).read_bytes() == content for file, content in contents.items())
    assert "left out and left alone: " in found.format()


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    """At the same moment, so that they choose the same number."""
    HistoryStorage(tmp_path).prepare()
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: write(tmp_path, results({"torch": 1e-3})), range(24)))
    runs = HistoryStorage(tmp_path).read().runs
    assert {run.name for run in runs} == set(names)
    assert len(runs) == 24


def test_pytest_benchmark_lists_and_compares_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seconds in (5e-4, 6e-4):
        write(tmp_path, results({"torch": 1e-3, "onnx int8": seconds}))
    monkeypatch.chdir(tmp_path)
    for command in (["list"], ["compare", "--group-by", "name", "--columns", "median,rounds"]):
        monkeypatch.setattr(sys, "argv", ["pytest-benchmark", "--storage", str(tmp_path), *command])
        cli.main()
    told = capsys.readouterr()
    assert "Failed" not in told.out + told.err
    assert len([line for line in told.out.splitlines() if line.endswith(".json")]) == 2
    assert told.out.count("onnx int8[single-stream]") == 3  # the group, and a row of each run


def test_pytest_keeps_its_benchmarks_in_the_same_folder(tmp_path: Path) -> None:
    """`pytest --benchmark-compare --benchmark-autosave` loads and saves like this."""
    first = write(tmp_path, results({"torch": 1e-3}))
    storage = FileStorage(str(tmp_path), Logger(Logger.QUIET), default_machine_id=get_machine_id())
    ((path, loaded),) = storage.load()
    assert str(path) == first
    assert loaded["benchmarks"][0]["stats"]["median"] == pytest.approx(1e-3)
    assert {"machine_info", "commit_info", "datetime", "version"} <= loaded.keys()
    storage.save({"benchmarks": []}, "unversioned_20261129")
    stored = HistoryStorage(tmp_path).read()
    assert [run.name for run in stored.runs] == [first]
    assert [name.partition("/")[2][:5] for name in stored.left_out] == ["0002_"]
    assert write(tmp_path, results({"torch": 1e-3})).partition("/")[2].startswith("0003_")


def test_a_file_names_the_browser_and_no_host() -> None:
    made = results({"torch": 1e-3})
    identity = replace(made.identity, environment={**made.identity.environment, "browser": "Chromium 150.0"})
    stored = history_run.to_json(replace(made, identity=identity), START)
    assert stored["machine_info"]["node"] == ""
    assert stored["lmtool"]["versions"]["browser"] == "Chromium 150.0"


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    fill(tmp_path, [1.0] * 6 + [1.2] * 5)
    one_round = results({"torch": 1e-3}, processor="<another>")
    one_round = replace(one_round, timings=[replace(each, rounds=each.rounds[:1]) for each in one_round.timings])
    found = History(tmp_path).append(one_round)
    page = found.page.read_text()
    assert page.count('<svg class="plot c1"') == 3
    assert page.count('class="change"') == 1
    assert "slower" in page
    assert "onnxruntime 1.31.1" in page
    assert "1 run, too few to tell" in page
    assert "&lt;another&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "nan" not in page
    assert "inf" not in page.partition("</style>")[2].replace("information", "")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A benchmark that takes no time; the list tells what was done."""
    told: list[str] = []

    def run_bench(*_: Any) -> Results:
        told.append("measured")
        return results({"torch": 1e-3})

    def save_results(*_: Any) -> dict[str, Path]:
        told.append("saved")
        return {}

    monkeypatch.setattr(benchmark_run, "run_bench", run_bench)
    monkeypatch.setattr(benchmark_run, "save_results", save_results)
    return told


def test_a_run_ends_in_the_history(tmp_path: Path, done: list[str]) -> None:
    for _ in range(2):
        history = History(tmp_path / "history", 0.1)
        made = benchmark_run.run_benchmark(BenchOptions(Path("model.onnx")), tmp_path, None, lambda _: None, history)
    assert made.passed
    assert "history of 2 runs" in made.format()
    assert f"history: {tmp_path / 'history' / 'history.html'}" in made.format()
    assert made.to_json()["history"]["series"][0]["too_few_runs"] is True


def test_a_gate_fails_on_a_slow_down_in_the_history(tmp_path: Path, done: list[str]) -> None:
    for day, seconds in enumerate([5e-4, 5.01e-4, 5e-4, 5.02e-4, 5e-4, 1e-3, 1.001e-3]):
        write(tmp_path, results({"torch": seconds}), START + timedelta(days=day))
    options = BenchOptions(Path("model.onnx"))
    made = benchmark_run.run_benchmark(options, tmp_path / "out", None, lambda _: None, History(tmp_path, 0.1))
    assert not made.passed
    assert "since run 6 of 2026-11-06" in made.format()


def test_a_full_disk_loses_no_results(tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise StorageError("no space left on device")

    monkeypatch.setattr(HistoryStorage, "append", full)
    told: list[str] = []
    options = BenchOptions(Path("model.onnx"))
    with pytest.raises(StorageError, match="no space left"):
        benchmark_run.run_benchmark(options, tmp_path, None, told.append, History(tmp_path / "history"))
    assert done == ["measured", "saved"]
    assert "torch" in told[-1]


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, done: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    options = BenchOptions(Path("model.onnx"))
    with pytest.raises(StorageError, match="cannot make the folder"):
        benchmark_run.run_benchmark(options, tmp_path, None, lambda _: None, History(tmp_path / "file"))
    only_loadgen = replace(options, scenarios=[], mlperf=True)
    with pytest.raises(OptionError, match="none is timed; name one with --scenario"):
        benchmark_run.run_benchmark(only_loadgen, tmp_path, None, lambda _: None, History(tmp_path / "h"))
    if os.geteuid():
        (tmp_path / "h" / "x").mkdir(parents=True)
        (tmp_path / "h").chmod(0o500)
        with pytest.raises(StorageError, match="cannot make the folder"):
            benchmark_run.run_benchmark(options, tmp_path, None, lambda _: None, History(tmp_path / "h"))
    assert done == []


def test_the_rule_raises_no_false_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    assert change_points.false_alarms(12, 0.0)[-1] == 0
    monkeypatch.setattr(change_point, "decision_confidence", lambda *_: 0.95)  # the positive control
    assert change_points.false_alarms(5, 0.0)[-1] > 0.5


def test_the_rule_finds_slow_downs() -> None:
    assert change_points.power(15, 0.01, 0.2, 5)[0] > 0.95
    assert change_points.power(15, 0.01, 0.1, 10)[1] > 0.9
    assert change_points.power(15, 0.01, 0.05, 20)[2] > 0.9


def test_intervals_of_changes_hold_the_truth() -> None:
    random_numbers = np.random.default_rng(1)
    for _ in range(20):
        history = change_points.make_history(20, 0.01, 0.0, random_numbers)
        history[12:] *= 1.2
        (change,) = find_changes(history.tolist())
        assert change.first == 12
        assert change.ratio.low < 1.2 < change.ratio.high
        assert math.isfinite(change.ratio.high)

"""The server scenario over a stream pool: a light load, an overload, a full queue, a runtime that fails."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lmtool.bench import Scenario
from lmtool.bench.backends.source import Source
from lmtool.bench.load import mlperf_server
from lmtool.bench.load.loadgen import missing
from lmtool.bench.load.mlperf_server import ServerReport, measure_server
from lmtool.bench.workers.job import Job, run_job
from lmtool.model import Run
from lmtool.runtime import OptionError, PoolError, Predictor

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture
def slow(own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """A call takes 5 ms more."""
    step = own_predictor.network.run

    def slower(*args: Any, **options: Any) -> Any:
        time.sleep(0.005)
        return step(*args, **options)

    monkeypatch.setattr(own_predictor.network, "run", slower)
    return own_predictor


@pytest.fixture(scope="module")
def report(predictor: Predictor) -> ServerReport:
    return light(predictor)


def light(predictor: Predictor) -> ServerReport:
    """More than the 459 requests that loadgen wants to see, and a bound that a busy machine keeps."""
    return measure_server(predictor, 700.0, 0.9, 5.0, max_batch=8)


def test_a_light_load_is_valid_and_every_request_is_answered(
    predictor: Predictor, capfd: pytest.CaptureFixture[str]
) -> None:
    report = light(predictor)
    assert report.valid, report.invalid_reasons
    assert report.invalid_reasons == []
    assert report.refused == 0
    assert report.requests == len(report.latencies) >= 459
    assert 0 < report.percentile(50) <= report.percentile(95) <= report.percentile(99) <= max(report.latencies)
    assert 0.3 * report.rate < report.achieved_rate < 1.2 * report.rate
    assert 0 < report.calls <= report.requests
    assert 1 <= report.streams_per_call <= 8
    assert report.exact
    assert capfd.readouterr() == ("", "")


def test_the_report_as_json_holds_every_latency(report: ServerReport) -> None:
    value = json.loads(json.dumps(report.to_json()))
    assert value["latencies"] == report.latencies
    assert value["p50"] == sorted(report.latencies)[len(report.latencies) // 2]
    assert value["p95"] <= value["p99"] <= value["max"] == max(report.latencies)
    assert value["requests"] == report.requests
    assert value["valid"] is True


def test_an_inexact_artifact_is_measured_and_named_so(dynamic_int8_path: Path) -> None:
    report = light(Predictor.load(dynamic_int8_path))
    assert report.valid, report.invalid_reasons
    assert not report.exact


def test_requests_that_are_made_late_are_warned_of(report: ServerReport) -> None:
    p99 = report.percentile(99)
    assert replace(report, lateness_p99=0.24 * p99).warnings == []
    (warning,) = replace(report, lateness_p99=0.26 * p99).warnings
    assert f"{260 * p99:.2f} ms late" in warning


def test_an_overload_is_not_valid(slow: Predictor) -> None:
    report = measure_server(slow, 1100.0, 0.7, 0.01, max_batch=4)
    assert not report.valid
    assert "Performance constraints satisfied: NO" in report.invalid_reasons
    assert report.refused == 0
    assert report.percentile(99) > 0.01
    assert report.achieved_rate < 0.9 * report.rate
    assert report.streams_per_call > 2


def test_a_full_queue_refuses_and_that_alone_makes_a_run_invalid(slow: Predictor) -> None:
    report = measure_server(slow, 900.0, 0.7, 5.0, max_batch=1, max_waiting=2)
    assert report.refused > 0
    assert len(report.latencies) == report.calls
    assert min(report.latencies) > 0.005  # a refusal is no answer
    assert report.achieved_rate < 250
    assert not report.valid
    share = f"{report.refused:,} of {report.requests:,}"
    assert report.invalid_reasons == [f"{share} requests were refused: 2 waited already"]


def test_a_runtime_that_fails_ends_the_measurement_with_its_error(
    own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = own_predictor.network.run

    def failing(*args: Any, **options: Any) -> Any:
        if threading.current_thread().name == "lmtool-pool":
            raise RuntimeError("planted")
        return step(*args, **options)

    monkeypatch.setattr(own_predictor.network, "run", failing)
    with pytest.raises(PoolError, match="planted"):
        measure_server(own_predictor, 200.0, 0.2, 1.0, max_batch=2)


def test_arguments_outside_their_ranges_are_refused(predictor: Predictor) -> None:
    for changed in ({"rate": 0.0}, {"max_batch": 0}, {"max_waiting": 0}, {"latency_bound_seconds": -1.0}):
        with pytest.raises(OptionError, match="expected"):
            measure_server(predictor, **{"rate": 9.0, "seconds": 1.0, "latency_bound_seconds": 1.0, **changed})


def job(backend: str, artifact: Path, run: Run, output: Path) -> str:
    scenarios = [Scenario("server", rate=rate) for rate in (300, 600)]
    return Job(backend, Source(artifact, run.path), output, scenarios, 0.3, 9.0).to_json()


def test_the_program_measures_each_rate_of_a_runtime(artifact_path: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "lmtool.bench.load.mlperf_server", job("torch", artifact_path, run, out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    first, second = json.loads(out.read_text())["reports"]
    assert (first["rate"], second["rate"]) == (300, 600)
    assert first["requests"] == len(first["latencies"]) < second["requests"]
    assert second["latency_bound_seconds"] == 9


def test_an_error_of_the_program_is_a_message(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = job("onnxruntime", tmp_path / "no.onnx", run, tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["mlperf_server", line])
    with pytest.raises(SystemExit) as ended:
        run_job(mlperf_server._measure)
    assert ended.value.code == 1
    assert "no.onnx" in capsys.readouterr().err
    assert "no.onnx" in json.loads((tmp_path / "out").read_text())["refused"]

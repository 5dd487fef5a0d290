"""The measurement of a stream pool: throughput, latency under random arrivals, memory."""

import sys
from pathlib import Path

import pytest
import stream_pool_load
from common.program import run_program
from lmtool.bench.load.loadgen import missing

SMALL = ["--together", "1", "3", "--seconds", "0.05"]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the resident set is read from Linux's /proc")


def program(monkeypatch: pytest.MonkeyPatch, artifact: Path, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["stream_pool_load", "--model", str(artifact), *SMALL, *arguments])
    with pytest.raises(SystemExit) as ended:
        run_program(stream_pool_load.main)
    return ended.value.code


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@on_linux
def test_the_report_tells_throughput_latency_and_memory(
    artifact_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program(monkeypatch, artifact_path, "--streams", "300", "--latency-bound-ms", "0.001") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["1", "3"]
    assert [line.split()[0] for line in lines[6:8]] == ["50%", "80%"]
    assert [line.split()[-1] for line in lines[6:8]] == ["INVALID"] * 2
    assert "50%: Performance constraints satisfied: NO" in lines
    assert lines[-1].startswith("300 streams: states 0 MB; the process ")


def test_without_loadgen_the_rest_is_measured(
    artifact_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_pool_load, "missing", lambda: "planted")
    assert program(monkeypatch, artifact_path, "--streams", "0") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["1", "3"]
    assert lines[-1] == "latency under random arrivals was not measured: planted"


def test_an_inexact_artifact_is_refused_with_a_message_unless_it_is_allowed(
    dynamic_int8_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_pool_load, "missing", lambda: "planted")
    assert program(monkeypatch, dynamic_int8_path, "--streams", "0") == 1
    assert "not batch-invariant" in capsys.readouterr().err
    assert program(monkeypatch, dynamic_int8_path, "--streams", "0", "--allow-inexact") == 0
    assert "tokens/s" in capsys.readouterr().out

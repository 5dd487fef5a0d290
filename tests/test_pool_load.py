"""The measurement of a stream pool, on a model that answers at once: what it counts must add up."""

import sys
from pathlib import Path

import pytest
from lmtool.bench import pool_load
from lmtool.runtime import Predictor


def test_every_arrival_is_answered_or_refused(predictor: Predictor) -> None:
    load = pool_load.measure_load(predictor, pool_load.Load(0.5, 400.0), 8, 0.25, False)
    assert len(load.latencies) + load.refused == 101
    assert min(load.latencies) > 0
    assert 0 < load.calls <= 101


@pytest.mark.skipif(sys.platform != "linux", reason="the resident set is read as Linux tells it")
def test_the_report_tells_throughput_latency_and_memory(
    artifact_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["--together", "1", "3", "--seconds", "0.05", "--streams", "300"]
    monkeypatch.setattr(sys, "argv", ["pool_load", "--model", str(artifact_path), *small])
    pool_load.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["1", "3"]
    assert [line.split()[0] for line in lines[6:8]] == ["50%", "80%"]
    assert lines[-1].startswith("300 streams: states 0 MB; the process ")

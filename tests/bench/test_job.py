"""The job of a worker process: nothing is lost on its way through JSON."""

import sys
from pathlib import Path

import pytest
from lmtool.bench import Scenario
from lmtool.bench.backends.source import Source
from lmtool.bench.workers.job import Job, run_job


@pytest.mark.parametrize("original", [None, Path("/runs/a b/ö")])
def test_a_job_comes_back_as_it_went(original: Path | None) -> None:
    source = Source(Path("/runs/model.onnx"), original, "cuda", 3)
    scenarios = [Scenario("load"), Scenario("offline", 2, 5), Scenario("server", rate=7)]
    job = Job("onnxruntime", source, Path("/tmp/report.json"), scenarios, 1.5, 0.25)
    assert Job.from_json(job.to_json()) == job


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = Job.from_json(Job("torch", Source(Path("a.onnx"), Path("run")), Path("out.json")).to_json())
    assert job.source == Source(tmp_path / "a.onnx", tmp_path / "run")
    assert job.output == tmp_path / "out.json"


def test_a_worker_without_a_job_says_what_it_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["verify"])
    with pytest.raises(SystemExit, match="expected one argument: a job as JSON"):
        run_job(lambda _: {})

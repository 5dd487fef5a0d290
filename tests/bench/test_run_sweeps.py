"""Sweeps over real processes, small: every axis, networks made for it and verified, and what fails on the way."""

import shutil
from pathlib import Path

import pytest
from lmtool.bench import Scenario, format_table, run_bench, run_sweeps, verification
from lmtool.bench.benchmark import BenchOptions
from lmtool.bench.candidates import find_candidates
from lmtool.bench.rounds import Schedule
from lmtool.export import ParityError
from lmtool.model import Run
from lmtool.runtime import Artifact
from support.scale import torture_only


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_sweeps, "_BATCHES", (1, 2))
    monkeypatch.setattr(run_sweeps, "_CHUNKS", (1, 3))
    monkeypatch.setattr(run_sweeps, "_HIDDEN_FACTORS", (2,))
    monkeypatch.setattr(run_sweeps, "_VOCABULARY_FACTORS", (0.5,))
    monkeypatch.setattr(run_sweeps, "usable_cores", lambda: 1)


@torture_only
@pytest.mark.usefixtures("small")
def test_a_sweep_times_a_runtime_along_every_axis_that_one_core_has(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "model.int8.onnx").unlink()
    artifact = tmp_path / "run" / "model.onnx"
    size = len(Artifact.read(artifact).vocabulary)
    options = BenchOptions(artifact, against=(), scenarios=[Scenario("load")], schedule=Schedule(1, 0.02), sweep=True)
    results = run_bench(options, lambda _: None)
    assert results.is_sound, (results.failed, results.crashed)
    sweeps = {sweep.axis: sweep for sweep in results.sweeps}
    assert {axis: sweep.values for axis, sweep in sweeps.items()} == {
        "batch": [1, 2],
        "chunk": [1, 3],
        "hidden": [14],
        "vocabulary": [size // 2],
    }
    for sweep in sweeps.values():
        assert list(sweep.timings) == ["onnx fp32"]
        assert all(seconds > 0 for seconds in sweep.seconds_per_token("onnx fp32").values())
    text = format_table(results)
    for axis in sweeps:
        assert f"sweep over {axis}" in text
    assert len(results.to_json()["sweeps"]) == 4
    assert [str(scenario) for scenario in results.scenarios] == ["load"]


@pytest.mark.usefixtures("small")
def test_a_network_that_is_refused_in_a_precision_is_left_out_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = run_sweeps.export_run

    def picky(made: Run, precision: str, **options: str | None) -> object:
        if precision == "int8" and made.path.name.startswith("hidden"):
            raise ParityError("it differs")
        return exported(made, precision, **options)

    monkeypatch.setattr(run_sweeps, "export_run", picky)
    monkeypatch.setattr(verification, "run_verification_job", lambda *_: {"passed": True})
    candidates, _ = find_candidates(run.artifact("fp32"), ["cpu"], (), 1)
    points, verified = run_sweeps._resized_points(candidates, tmp_path, lambda _: None)
    assert [(point.axis, point.runtime) for point in points] == [
        ("hidden", "onnx fp32"),
        ("vocabulary", "onnx fp32"),
        ("vocabulary", "onnx int8"),
    ]
    assert verified.skipped == {"onnx int8, hidden 14": "it differs"}


def test_one_core_has_no_threads_to_vary(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates, _ = find_candidates(run.artifact("fp32"), ["cpu"], (), 1)
    monkeypatch.setattr(run_sweeps, "usable_cores", lambda: 6)
    points = [point for point in run_sweeps._thread_points(candidates) if point.runtime == "onnx fp32"]
    assert [point.candidate.source.threads for point in points] == [1, 2, 4, 6]
    monkeypatch.setattr(run_sweeps, "usable_cores", lambda: 1)
    assert list(run_sweeps._thread_points(candidates)) == []

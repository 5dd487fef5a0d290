"""Conformance: an artifact's test vectors in every installed runtime, and in ONNX's test runner."""

import re
import shutil
import unittest
from pathlib import Path
from typing import Any

import onnx
import onnx.backend.test.runner
import onnx.reference
import pytest
from lmtool.bench import BenchError
from lmtool.bench.backends.registry import BACKENDS
from lmtool.bench.backends.source import Source
from lmtool.bench.conformance import RUNTIMES, Conformance, check_conformance
from lmtool.bench.workers.run_vectors import run_vectors
from lmtool.export import export_run
from lmtool.model import Run, TrainOptions, run_training
from lmtool.runtime import CELLS, Artifact
from onnx.backend.base import Backend, BackendRep
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.runner import Runner
from support.runs.reporters import RecordingReporter
from support.runs.settings import SETTINGS

REFUSED = {("opencv", "rnn"), ("iree", "gru"), ("iree", "rnn"), ("executorch", "gru")}
"""Runtimes and cells that they do not run."""


@pytest.fixture(scope="module", params=CELLS)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path, run: Run
) -> Path:
    """An artifact of each cell with its test vectors, in its run folder."""
    path = tmp_path_factory.mktemp("conformance") / "run"
    if request.param == "lstm":
        shutil.copytree(run.path, path)
    else:
        options = TrainOptions(
            "ptb-200", str(corpus_folder), path, settings={**SETTINGS, "cell": request.param}, threads=1
        )
        run_training(options, RecordingReporter())
    return export_run(Run(path), test_vectors=True).path


def conformance_of(runtime: str, path: Path, original: Path | None = None) -> Conformance:
    """Run the vectors in this process; nothing is timed, so runtimes may share it."""
    return Conformance.from_report(runtime, run_vectors(runtime, Source(path, original)))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_installed_runtimes_reproduce_the_test_vectors(exported: Path, runtime: str) -> None:
    if reason := BACKENDS[runtime].reason_missing():
        pytest.skip(reason)
    if (runtime, Artifact.read(exported).architecture.cell) in REFUSED:
        with pytest.raises(BenchError, match="cannot run .*: "):
            conformance_of(runtime, exported, exported.parent)
        return
    conformance = conformance_of(runtime, exported, exported.parent)
    assert conformance.passed, conformance
    assert conformance.calls == 30
    assert conformance.version[0].isdigit()


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if not BACKENDS[name].runs_original])
def test_a_runtime_runs_int8_unless_it_is_known_not_to(run: Run, tmp_path: Path, runtime: str) -> None:
    if reason := BACKENDS[runtime].reason_missing():
        pytest.skip(reason)
    path = export_run(run, "int8", tmp_path / "model.onnx", test_vectors=True).path
    if not BACKENDS[runtime].runs_int8:
        with pytest.raises(BenchError, match=r"cannot run .*model\.onnx: "):
            conformance_of(runtime, path)
        assert runtime in check_conformance(path, [runtime], "cpu", print).skipped
        return
    conformance = conformance_of(runtime, path)
    assert conformance.passed, conformance


class Reference(Backend):
    """onnx's evaluator as a backend of its test runner; `offset` is added to the logits."""

    offset = 0.0

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> BackendRep:
        return Prepared(model, cls.offset)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


class Prepared(BackendRep):
    def __init__(self, model: onnx.ModelProto, offset: float) -> None:
        self._evaluator, self._offset = onnx.reference.ReferenceEvaluator(model), offset

    def run(self, inputs: list[Any], **_: Any) -> tuple[Any, ...]:
        logits, *states = self._evaluator.run(None, dict(zip(self._evaluator.input_names, inputs, strict=False)))
        return (logits + self._offset, *states)


@pytest.mark.parametrize(("offset", "failures"), [(0.0, 0), (1e-3, 1)])
def test_the_test_runner_of_onnx_reads_the_folders(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: float, failures: int
) -> None:
    shutil.copytree(
        exported.parent, tmp_path / "simple" / "test_lmtool", ignore=shutil.ignore_patterns("*.safetensors")
    )
    load = onnx.backend.test.runner.load_model_tests

    def only_ours(kind: str) -> list[TestCase]:
        return load(str(tmp_path), kind) if kind == "simple" else []

    monkeypatch.setattr(onnx.backend.test.runner, "load_model_tests", only_ours)
    monkeypatch.setattr(Reference, "offset", offset)
    result = unittest.TestResult()
    Runner(Reference).test_suite.run(result)
    ran = result.testsRun - len(result.skipped)  # tests for other devices are skipped
    assert ran == 1
    assert len(result.failures) == failures, result.errors
    assert not result.errors
    assert failures == 0 or re.search(r"Not equal to tolerance rtol=0, atol=", result.failures[0][1])

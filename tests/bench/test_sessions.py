"""Runtimes in this process that run an ONNX file: what they are fed, what they return, what a refusal says.

Stand-ins take the place of packages that may be missing; the real ones are in tests/portability/test_conformance.py.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from lmtool.bench import BenchError
from lmtool.bench.backends import executorch
from lmtool.bench.backends.graph_names import read_names
from lmtool.bench.backends.opencv import OpenCvSession
from lmtool.bench.backends.registry import BACKENDS
from lmtool.bench.backends.sessions import SESSIONS, not_installed
from lmtool.bench.backends.source import Source
from lmtool.bench.backends.tract import TractSession
from lmtool.bench.candidates import find_candidates
from lmtool.bench.conformance import check_conformance
from lmtool.export import export_run
from lmtool.model import Run

LONG = "line one\n  line two " + "x" * 1000


def module_of(name: str, **members: Any) -> Any:
    module = ModuleType(name)
    module.__dict__.update(members)
    return module


class TractError(Exception):
    """As tract's."""


@pytest.fixture
def tract(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A tract that returns its inputs plus one; `error` is raised by the call."""
    facts = SimpleNamespace(error=None, fed=None)

    def run(inputs: list[Any]) -> list[Any]:
        if facts.error:
            raise TractError(facts.error)
        facts.fed = inputs
        return [SimpleNamespace(to_numpy=lambda array=array: array + 1) for array in inputs]

    model = SimpleNamespace(into_model=lambda: model, into_runnable=lambda: SimpleNamespace(run=run))
    reader = SimpleNamespace(load=lambda path: model)
    monkeypatch.setitem(
        sys.modules, "tract", module_of("tract", onnx=lambda: reader, TractError=TractError, version=lambda: "9.8")
    )
    return facts


def test_names_are_those_of_the_file_without_defaults(run: Run) -> None:
    names = read_names(run.artifact("fp32"))
    assert names.inputs[0] == "token_ids"
    assert "logits_to_keep" not in names.inputs
    assert names.outputs == ["logits", *(f"next_{name}" for name in names.inputs[1:])]


def test_tract_is_fed_in_the_files_order_and_answers_by_the_files_names(run: Run, tract: SimpleNamespace) -> None:
    session, names = TractSession(run.artifact("fp32"), 1), read_names(run.artifact("fp32"))
    feed = {name: np.full(2, index) for index, name in enumerate(names.inputs)}
    asked = list(reversed(names.outputs))
    outputs = session.run(asked, dict(reversed(feed.items())))
    assert [array[0] for array in tract.fed] == list(range(len(feed)))
    assert [array[0] for array in outputs] == list(range(len(feed), 0, -1))


def test_a_refusal_names_the_runtime_and_the_file_in_one_short_line(run: Run, tract: SimpleNamespace) -> None:
    session = TractSession(run.artifact("fp32"), 1)
    tract.error = f"{LONG}\nStack backtrace:\n   0: main"
    with pytest.raises(BenchError, match=r"^tract 9\.8 cannot run .*\.onnx: line one line two x+\.\.\.$") as caught:
        session.run(["logits"], dict.fromkeys(read_names(run.artifact("fp32")).inputs, np.zeros(1)))
    assert len(str(caught.value)) < 600


def test_tract_refuses_threads_that_it_would_not_use(run: Run, tract: SimpleNamespace) -> None:
    with pytest.raises(BenchError, match="one thread, found 2 threads; measure it with --threads 1"):
        TractSession(run.artifact("fp32"), 2)


class Cv2Error(Exception):
    """As OpenCV's."""


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(empty: bool, **engines: int) -> None:
        network = SimpleNamespace(empty=lambda: empty)
        dnn = SimpleNamespace(readNetFromONNX=lambda path, engine: network, **engines)
        members = {"dnn": dnn, "error": Cv2Error, "setNumThreads": lambda count: None, "__version__": "5.1"}
        monkeypatch.setitem(sys.modules, "cv2", module_of("cv2", **members))

    return install


def test_opencv_reading_nothing_or_without_its_engine_is_a_refusal(opencv: Callable[..., None]) -> None:
    opencv(empty=True, ENGINE_NEW=2)
    with pytest.raises(BenchError, match=r"OpenCV 5\.1 cannot run any\.onnx: .*an empty network"):
        OpenCvSession(Path("any.onnx"), 1)
    opencv(empty=False)
    with pytest.raises(BenchError, match=r"found OpenCV 5\.1, expected 5 or later"):
        OpenCvSession(Path("any.onnx"), 1)


def test_a_missing_runtime_is_named_with_the_remedy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("tract", "opencv", "iree", "executorch")
    for module in ("tract", "cv2", "iree", "executorch"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    candidates, skipped = find_candidates(run.artifact("fp32"), ["cpu"], names, 1)
    assert not set(names) & set(candidates)
    for name in names:
        assert skipped[name].startswith("it is not installed; pip install "), name
    assert not_installed("x", "y z") == "it is not installed; pip install y z"


def test_executorch_needs_the_run_folder(run: Run) -> None:
    candidates, skipped = find_candidates(run.artifact("fp32"), ["cpu"], ["executorch"], 1)
    assert "executorch" in {**candidates, **skipped}
    with pytest.raises(BenchError, match="expected the run folder"):
        BACKENDS["executorch"].load(Source(run.artifact("fp32")))


def test_a_network_that_executorch_cannot_export_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise ValueError("no such operator")

    for name in ("", ".extension", ".extension.pybindings", ".runtime"):
        monkeypatch.setitem(sys.modules, f"executorch{name}", MagicMock())
    monkeypatch.setattr(executorch, "_lowered", fail)
    monkeypatch.setattr(executorch.metadata, "version", lambda name: "1.4")
    with pytest.raises(BenchError, match=r"ExecuTorch 1\.4 cannot run .*: no such operator"):
        BACKENDS["executorch"].load(Source(run.artifact("fp32"), run.path))


def test_vectors_in_int8_are_not_fed_to_runtimes_known_to_refuse_them(run: Run, tmp_path: Path) -> None:
    path = export_run(run, "int8", tmp_path / "model.onnx", test_vectors=True).path
    without = [name for name, spec in SESSIONS.items() if not spec.runs_int8]
    report = check_conformance(path, without, "cpu", lambda _: None)
    assert report.skipped == dict.fromkeys(without, "it does not run int8 artifacts")

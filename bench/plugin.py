"""The pytest plugin behind `bench_*.py`: which runtime, artifact, provider, threads and shapes to measure.

By hand: pytest -p lmtool.bench.plugin bench/bench_reading.py --artifact runs/NAME/model.onnx --shape 1x1 --shape 64x1
(and --runtime torch --original runs/NAME, or another of `lmtool.bench.runtimes.KINDS`).
"""

from pathlib import Path
from typing import Any

import pytest

from .runtimes import KINDS, ONNXRUNTIME, TORCH, Source
from .scenario import Scenario


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("lmtool")
    group.addoption("--runtime", choices=KINDS, default=ONNXRUNTIME, help=f"what to measure (default: {ONNXRUNTIME})")
    group.addoption("--artifact", type=Path, help="ONNX file")
    group.addoption("--original", type=Path, help="run folder of the PyTorch original (default: the artifact's)")
    group.addoption("--provider", default="cpu", help="execution provider (default: cpu)")
    group.addoption("--threads", type=int, default=1, help="threads of one call (default: 1)")
    group.addoption("--shape", action="append", default=[], help="BATCHxTIME, may be repeated (default: 1x1)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One benchmark for each shape."""
    if "scenario" in metafunc.fixturenames:
        shapes = metafunc.config.getoption("--shape") or ["1x1"]
        metafunc.parametrize("scenario", [Scenario.parse(shape) for shape in shapes], ids=str)


@pytest.fixture(scope="session")
def runtime(pytestconfig: pytest.Config) -> Any:
    """The runtime that the options name."""
    name, artifact, original = (pytestconfig.getoption(f"--{option}") for option in ("runtime", "artifact", "original"))
    if artifact is None and (original is None or not name.startswith(TORCH)):
        raise pytest.UsageError("name what to measure: --artifact FILE, or --runtime torch --original RUN")
    folder = original or artifact.resolve().parent
    provider, threads = (pytestconfig.getoption(f"--{option}") for option in ("provider", "threads"))
    return KINDS[name].make(Source(artifact or folder, folder, provider, threads))

"""The pytest plugin behind `bench_*.py`: which runtime, artifact, provider, threads and shapes to measure.

By hand: pytest -p lmtool.bench.plugin bench/bench_reading.py --artifact runs/NAME/model.onnx --shape 1x1 --shape 64x1
"""

from pathlib import Path
from typing import Any

import pytest

from .runtimes import OnnxRuntime, Runtime, TorchEager
from .scenario import Scenario


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("lmtool")
    group.addoption("--artifact", type=Path, help="measure this artifact with onnxruntime")
    group.addoption("--original", type=Path, help="measure the PyTorch original in this run folder")
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
    return _runtime(pytestconfig)


def _runtime(config: pytest.Config) -> Runtime:
    artifact, original = config.getoption("--artifact"), config.getoption("--original")
    if (artifact is None) == (original is None):
        raise pytest.UsageError("name what to measure: --artifact FILE or --original RUN")
    provider, threads = config.getoption("--provider"), config.getoption("--threads")
    if original is not None:
        return TorchEager(original, provider, threads)
    return OnnxRuntime(artifact, provider, threads)

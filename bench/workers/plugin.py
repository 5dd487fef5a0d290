"""The pytest plugin behind `bench_*.py`: which runtime, artifact, provider, threads and scenarios to measure.

By hand, with all of pytest-benchmark's options (--benchmark-save, --benchmark-compare, ...):

    pytest -p lmtool.bench.workers.plugin --benchmark-enable bench/bench_calls.py --artifact runs/NAME/model.onnx
        --scenario single-stream --scenario multi-stream:64

(and --runtime torch --original runs/NAME, or another of `lmtool.bench.backends.registry.BACKENDS`).
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ..backends.registry import BACKENDS, ONNXRUNTIME, TORCH, Backend, Source
from ..environment import forget_peak, peak_bytes, pin
from ..scenario import Scenario
from .workload import workload

PEAK = "peak_bytes"
"""The largest resident set meanwhile, in the extra information of a benchmark's JSON."""

ROOFLINE = "roofline"
"""A `Roofline` beside the benchmarks in their JSON."""

_ON_THE_PROCESSOR = ("cpu", "openvino")
_FIXTURES = {"load": "load_scenario", "first-step": "first_step_scenario"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("lmtool")
    group.addoption("--runtime", choices=BACKENDS, default=ONNXRUNTIME, help="what to measure (default: onnxruntime)")
    group.addoption("--artifact", type=Path, help="ONNX file")
    group.addoption("--original", type=Path, help="run folder of the PyTorch original (default: the artifact's)")
    group.addoption("--provider", default="cpu", help="execution provider (default: cpu)")
    group.addoption("--threads", type=int, default=1, help="threads of one call (default: 1)")
    group.addoption(
        "--scenario",
        action="append",
        default=[],
        help="single-stream (default), multi-stream:BATCH, offline:BATCHxTIME, load, ...; may be repeated",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect the functions of `bench_*.py`."""
    config.addinivalue_line("python_functions", "bench_*")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One benchmark for each scenario, in the function that measures its kind."""
    scenarios = [Scenario.parse(text) for text in metafunc.config.getoption("--scenario") or ["single-stream"]]
    for fixture in ("call_scenario", *_FIXTURES.values()):
        if fixture in metafunc.fixturenames:
            mine = [found for found in scenarios if _FIXTURES.get(found.kind, "call_scenario") == fixture]
            metafunc.parametrize(fixture, mine, ids=str)


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add what bounds a step of an artifact on this machine, measured in the process that timed it, after all times."""
    artifact = config.getoption("--artifact")
    if (
        config.getoption("--runtime") == ONNXRUNTIME
        and config.getoption("--provider") == "cpu"
        and artifact is not None
    ):
        from ..roofline import measure_roofline  # which loads onnx, and that is none of the runtime's memory

        output_json[ROOFLINE] = asdict(measure_roofline(artifact))


@pytest.fixture(scope="session")
def load_runtime(pytestconfig: pytest.Config) -> Callable[[], Backend]:
    """Loads the runtime that the options name, on as many cores as it has threads if it runs on the processor."""
    name, artifact, original = (pytestconfig.getoption(f"--{option}") for option in ("runtime", "artifact", "original"))
    if artifact is None and (original is None or not name.startswith(TORCH)):
        raise pytest.UsageError("name what to measure: --artifact FILE, or --runtime torch --original RUN")
    folder = original or artifact.resolve().parent
    provider, threads = (pytestconfig.getoption(f"--{option}") for option in ("provider", "threads"))
    if provider in _ON_THE_PROCESSOR:
        pin(threads)
    return lambda: BACKENDS[name].load(Source(artifact or folder, folder, provider, threads))


@pytest.fixture(scope="session")
def runtime(load_runtime: Callable[[], Backend]) -> Backend:
    """The runtime, loaded."""
    return load_runtime()


@pytest.fixture
def call(runtime: Backend, call_scenario: Scenario) -> Callable[[], object]:
    """One call of a scenario that is made of calls."""
    return workload(runtime, call_scenario)


@pytest.fixture(autouse=True)
def _timer(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> None:
    """Let the benchmark be timed by the runtime's clock."""
    clock = BACKENDS[pytestconfig.getoption("--runtime")].clock
    request.node.add_marker(pytest.mark.benchmark(timer=clock))


@pytest.fixture
def measured(_timer: None, runtime: Backend, benchmark: Any) -> Iterator[Any]:
    """The benchmark, with the memory of the process that computes beside its times."""
    forget_peak(runtime.pid)
    yield benchmark
    benchmark.extra_info[PEAK] = peak_bytes(runtime.pid)

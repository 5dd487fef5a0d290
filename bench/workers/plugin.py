"""The pytest plugin of `bench_*.py`: it loads the backend of a job and times the job's scenarios.

Without the harness, with all options of pytest-benchmark (--benchmark-save, --benchmark-compare, ...):

    pytest -p lmtool.bench.workers.plugin --benchmark-enable bench/workers/bench_calls.py
        --artifact runs/NAME/model.onnx --scenario single-stream --scenario multi-stream:64

Add `--runtime torch --original runs/NAME` for PyTorch, or `--runtime` with another backend of `BACKENDS`.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ..backends.browser_process import WEBGPU
from ..backends.registry import BACKENDS, ONNXRUNTIME, TORCH, Backend, load_backend
from ..backends.source import Source
from ..backends.stateful import StatefulBackend
from ..environment import forget_peak, peak_bytes, pin
from ..scenario import APPLICATION_KINDS, Scenario
from .application_calls import ApplicationCalls, application_calls
from .energy import COUNTERS, EnergyMeter
from .job import Job
from .workload import workload

PEAK = "peak_bytes"
"""Key in the extra information of a benchmark: the peak resident set while it ran."""

BARE = "bare_seconds"
"""Key beside it: the time of the bare calls beside each call of an application."""

JOULES = "joules"
"""Key beside it: the energy of a call, in joules; None where it cannot be measured."""

ROOFLINE = "roofline"
"""Key beside the benchmarks: a `Roofline`."""

_CPU_PROVIDERS = ("cpu", "openvino")
_FIXTURES = {
    "load": "load_scenario",
    "first-step": "first_step_scenario",
    **dict.fromkeys(APPLICATION_KINDS, "application_scenario"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("lmtool")
    group.addoption("--job", type=Job.from_json, help="all of the below, as JSON that lmtool's harness writes")
    group.addoption("--runtime", choices=BACKENDS, default=ONNXRUNTIME, help="backend (default: onnxruntime)")
    group.addoption("--artifact", type=Path, help="ONNX file")
    group.addoption("--original", type=Path, help="run folder of the PyTorch original (default: the artifact's)")
    group.addoption("--provider", default="cpu", help="execution provider (default: cpu)")
    group.addoption("--threads", type=int, default=1, help="threads of one call (default: 1)")
    group.addoption(
        "--scenario",
        action="append",
        default=[],
        help="single-stream (default), multi-stream:BATCH, offline:BATCHxTIME, generation:TIME, ...; may be repeated",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect the functions of `bench_*.py`."""
    config.addinivalue_line("python_functions", "bench_*")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each scenario to the function that measures its kind."""
    for fixture in ("call_scenario", *dict.fromkeys(_FIXTURES.values())):
        if fixture in metafunc.fixturenames:
            scenarios = _job(metafunc.config).scenarios
            own = [scenario for scenario in scenarios if _FIXTURES.get(scenario.kind, "call_scenario") == fixture]
            metafunc.parametrize(fixture, own, ids=str)


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add the bound of a step on this machine, measured after all times in the process that took them."""
    job = _job(config)
    if job.backend == ONNXRUNTIME and job.source.provider == "cpu" and job.source.calls is None:
        from ..roofline import measure_roofline  # imports onnx, which must not count as the backend's memory

        output_json[ROOFLINE] = asdict(measure_roofline(job.source.artifact))


def _job(config: pytest.Config) -> Job:
    """The harness's job, or that of the other options."""
    job: Job | None = config.getoption("--job")
    if job is not None:
        return job
    names = ("runtime", "artifact", "original", "provider", "threads", "scenario")
    backend, artifact, original, provider, threads, scenarios = (config.getoption(f"--{name}") for name in names)
    if artifact is None and (original is None or not backend.startswith(TORCH)):
        raise pytest.UsageError("name what to measure: --artifact FILE, or --runtime torch --original RUN")
    folder = original or artifact.resolve().parent
    source = Source(artifact or folder, folder, provider, threads)
    parsed = [Scenario.parse(text) for text in scenarios or ["single-stream"]]
    return Job(backend, source, Path(os.devnull), parsed)


def _on_processor(job: Job) -> bool:
    return job.source.provider in _CPU_PROVIDERS and job.backend != WEBGPU


@pytest.fixture(scope="session")
def load_runtime(pytestconfig: pytest.Config) -> Callable[[], Backend | StatefulBackend]:
    """A function that loads the backend; on the CPU the process keeps to as many cores as a call has threads."""
    job = _job(pytestconfig)
    if job.source.provider in _CPU_PROVIDERS:
        pin(job.source.threads)
    return lambda: load_backend(job.backend, job.source)


@pytest.fixture(scope="session")
def runtime(load_runtime: Callable[[], Backend | StatefulBackend]) -> Backend | StatefulBackend:
    """The backend, loaded."""
    return load_runtime()


@pytest.fixture
def call(runtime: Backend | StatefulBackend, call_scenario: Scenario) -> Callable[[], object]:
    """One call of a scenario."""
    return workload(runtime, call_scenario)


@pytest.fixture
def first_call(load_runtime: Callable[[], Backend | StatefulBackend]) -> Callable[[], Callable[[], object]]:
    """A function that loads the backend and returns its first call, of one token or step."""
    return lambda: workload(load_runtime(), Scenario("single-stream"))


@pytest.fixture
def application(runtime: Backend, application_scenario: Scenario) -> Iterator[ApplicationCalls]:
    """The calls of an application over the backend's predictor."""
    with application_calls(runtime.predictor, application_scenario) as calls:
        yield calls


@pytest.fixture
def energy(pytestconfig: pytest.Config) -> EnergyMeter:
    """Measures the energy of calls, where the system shows it and the processor computes them."""
    return EnergyMeter(COUNTERS if _on_processor(_job(pytestconfig)) else None)


@pytest.fixture
def seconds(pytestconfig: pytest.Config) -> float:
    """Longest time of one scenario."""
    return float(pytestconfig.getoption("benchmark_max_time"))


@pytest.fixture(autouse=True)
def _timer(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> None:
    """Time with the backend's clock; applications, which run in this process, with this process's."""
    is_application = "application" in request.fixturenames
    clock = time.perf_counter if is_application else BACKENDS[_job(pytestconfig).backend].clock
    request.node.add_marker(pytest.mark.benchmark(timer=clock))


@pytest.fixture
def measured(_timer: None, runtime: Backend | StatefulBackend, benchmark: Any) -> Iterator[Any]:
    """The benchmark, which records the peak memory of the process that computes."""
    forget_peak(runtime.pid)
    yield benchmark
    benchmark.extra_info[PEAK] = peak_bytes(runtime.pid)

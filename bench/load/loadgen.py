"""MLPerf's load generator in its server scenario: requests arrive at random, and its own rules judge the run.

Arrivals are a Poisson process. A latency runs from when a request was due, not from when a late generator issued it, to
its answer. To know the latency of every request, loadgen has to write a trace: about 0.8 kB a request in the folder
for temporary files, and some 10 microseconds of a core, in a separate thread.
"""

import functools
import importlib.util
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from ...runtime.errors import OptionError
from ..errors import BenchError
from .loadgen_logs import NANOSECONDS, PERCENTILE, LoadgenResult, read_logs

_MAX_REQUESTS = 5_000_000

Issue = Callable[[int, Callable[[], None]], None]
"""Called for each request with a sample's index and a function to call, once, when the request is answered."""


@final
@dataclass(frozen=True)
class Arrivals:
    """Random arrivals and the bound of their latencies.

    Attributes:
        rate: Mean requests a second.
        seconds: How long requests arrive.
        latency_bound_seconds: Bound that 99 % of the latencies must keep.
        seed: Seed of the arrival times and of the samples.
    """

    rate: float
    seconds: float
    latency_bound_seconds: float
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: A field is outside its range, or there would be no request, or more than fit into memory.
        """
        for name, least in (("rate", 0.0), ("seconds", 0.001), ("latency_bound_seconds", 1e-9)):
            value = getattr(self, name)
            if not (value >= least and 0 < value < float("inf")):
                raise OptionError(f"{name} is {value}, expected {f'{least:g} or more' if least else 'more than 0'}")
        if not 0 <= self.seed < 2**32:
            raise OptionError(f"seed is {self.seed}, expected 0 or more, below 2^32")
        if not 1 <= self.rate * self.seconds <= _MAX_REQUESTS:
            raise OptionError(
                f"{self.rate:g} requests a second for {self.seconds:g} seconds are {self.rate * self.seconds:,g}, "
                f"expected 1 to {_MAX_REQUESTS:,}; choose another rate or another time"
            )


def missing() -> str | None:
    """Why loadgen cannot run here, with the remedy; None if it can."""
    if importlib.util.find_spec("mlperf_loadgen"):
        return None
    return (
        "the server scenario needs mlcommons-loadgen, which is not installed; pip install 'lmtool[loadgen]' "
        "(there is no wheel for Linux on ARM: with a C++ compiler, pip install mlcommons-loadgen)"
    )


def stop_at_sigint() -> None:
    """Let SIGINT end the process at once: loadgen cannot be stopped. For programs that leave no half-written file."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_loadgen(arrivals: Arrivals, samples: int, issue: Issue) -> LoadgenResult:
    """Let requests for `samples` different samples arrive, until all are answered.

    If `issue` raises or SIGINT comes, the run still lasts to its end, because loadgen cannot be stopped: later requests
    count as answered at once and are not issued.

    Raises:
        BenchError: Loadgen is not installed, or wrote no verdict.
        Exception: The first exception of `issue`, after the run; a KeyboardInterrupt too.
    """
    reason = missing()
    if reason is not None:
        raise BenchError(reason)
    with tempfile.TemporaryDirectory(prefix="lmtool-loadgen-") as folder:
        issuer = _Issuer(issue)
        with _deferred_interrupts(issuer.failures):
            _start_test(arrivals, samples, issuer, Path(folder))
        if issuer.failures:
            raise issuer.failures[0]
        return read_logs(Path(folder), np.array(issuer.seconds))


@contextmanager
def _deferred_interrupts(failures: list[BaseException]) -> Iterator[None]:
    """Add a KeyboardInterrupt to `failures` on SIGINT: raised inside loadgen, it would leave requests unanswered."""

    def defer(*_: object) -> None:
        failures.append(KeyboardInterrupt())

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not in_main or not callable(before):  # SIGINT is ignored, or not handled in Python
        yield
        return
    signal.signal(signal.SIGINT, defer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@final
class _Issuer:
    """Issues loadgen's requests and answers each once."""

    def __init__(self, issue: Issue) -> None:
        import mlperf_loadgen

        self.seconds: list[float] = []
        self.failures: list[BaseException] = []
        self._issue = issue
        self._complete = mlperf_loadgen.QuerySamplesComplete
        self._response = mlperf_loadgen.QuerySampleResponse
        self._open: set[int] = set()

    def __call__(self, ids: list[int], indices: list[int]) -> None:
        """Called by loadgen in the thread that started it; raises nothing."""
        for query, index in zip(ids, indices, strict=True):  # one in the server scenario
            start = time.perf_counter()
            self._open.add(query)
            try:
                if self.failures:
                    self._answer(query)
                else:
                    self._issue(index, functools.partial(self._answer, query))
            except Exception as error:
                self.failures.append(error)
                self._answer(query)
            self.seconds.append(time.perf_counter() - start)

    def _answer(self, query: int) -> None:
        if query in self._open:
            self._open.discard(query)
            self._complete([self._response(query, 0, 0)])


def _start_test(arrivals: Arrivals, samples: int, issuer: _Issuer, folder: Path) -> None:
    import mlperf_loadgen as loadgen

    def ignore(*_: Any) -> None:
        """Samples are in memory already, and there is nothing to flush."""

    system = loadgen.ConstructFastSUT(issuer, ignore)
    library = loadgen.ConstructQSL(samples, samples, ignore, ignore)
    try:
        no_audit = str(folder / "audit.config")  # else one in the current folder would change the settings
        loadgen.StartTestWithLogSettings(system, library, _settings(arrivals), _log_settings(folder), no_audit)
    finally:
        loadgen.DestroyQSL(library)
        loadgen.DestroyFastSUT(system)


def _settings(arrivals: Arrivals) -> Any:
    import mlperf_loadgen as loadgen

    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.Server
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.server_target_qps = arrivals.rate
    settings.server_target_latency_ns = round(arrivals.latency_bound_seconds * NANOSECONDS)
    settings.server_target_latency_percentile = PERCENTILE / 100
    settings.min_duration_ms = round(arrivals.seconds * 1000)
    settings.min_query_count = 1  # loadgen's rule of early stopping asks for enough: 459 or more for 99 %
    settings.schedule_rng_seed = settings.sample_index_rng_seed = arrivals.seed
    return settings


def _log_settings(folder: Path) -> Any:
    import mlperf_loadgen as loadgen

    settings = loadgen.LogSettings()
    settings.log_output.outdir = str(folder)
    settings.log_output.copy_summary_to_stdout = settings.log_output.copy_detail_to_stdout = False
    settings.enable_trace = True
    return settings

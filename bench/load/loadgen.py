"""MLPerf's load generator in its server scenario: requests arrive at random, and its own rules judge the run.

Arrivals are a Poisson process. A latency runs from when a request was due, not from when a late generator got round to
it, to its answer. To know that of every request loadgen has to write a trace: about 0.8 kB a request in the folder for
temporary files, and some 10 microseconds of a core, in a thread of its own.
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
from .loadgen_logs import NANOSECONDS, PERCENTILE, Served, read_logs

_MOST_REQUESTS = 5_000_000

Take = Callable[[int, Callable[[], None]], None]
"""Called for each request with a sample's index and what must be called, once, when the request is answered."""


@final
@dataclass(frozen=True)
class Arrivals:
    """Requests that arrive at random, and what is expected of their latencies.

    Attributes:
        rate: Requests a second, on average.
        seconds: How long they arrive.
        latency_bound_seconds: 99 % of them must be answered within that time.
        seed: Of the times and of the samples that are asked for.
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
        if not 1 <= self.rate * self.seconds <= _MOST_REQUESTS:
            raise OptionError(
                f"{self.rate:g} requests a second for {self.seconds:g} seconds are {self.rate * self.seconds:,g}, "
                f"expected 1 to {_MOST_REQUESTS:,}; choose another rate or another time"
            )


def missing() -> str | None:
    """Why loadgen cannot run here, with the remedy; None where it can."""
    if importlib.util.find_spec("mlperf_loadgen"):
        return None
    return (
        "the server scenario needs mlcommons-loadgen, which is not installed; pip install 'lmtool[loadgen]' "
        "(of Linux on ARM there is no wheel: with a C++ compiler, pip install mlcommons-loadgen)"
    )


def stop_at_sigint() -> None:
    """Let SIGINT end the process at once, for a program that leaves nothing half written: loadgen cannot be stopped."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def serve(arrivals: Arrivals, samples: int, take: Take) -> Served:
    """Let requests for `samples` different samples arrive, until all that did have been answered.

    It lasts as long as they arrive and as the last answers take, also where `take` fails or SIGINT comes: loadgen
    cannot be stopped. Whatever arrives then counts as answered at once and is not taken any more.

    Raises:
        BenchError: Loadgen is not installed, or has written no verdict.
        Exception: What `take` raised first, after the run; a KeyboardInterrupt too.
    """
    reason = missing()
    if reason is not None:
        raise BenchError(reason)
    with tempfile.TemporaryDirectory(prefix="lmtool-loadgen-") as folder:
        issuing = _Issuing(take)
        with _interrupts_kept(issuing.failures):
            _start_test(arrivals, samples, issuing, Path(folder))
        if issuing.failures:
            raise issuing.failures[0]
        return read_logs(Path(folder), np.array(issuing.seconds))


@contextmanager
def _interrupts_kept(failures: list[BaseException]) -> Iterator[None]:
    """Keep what SIGINT would raise for later: raised in a call from loadgen, it would end that among open requests."""

    def keep(*_: object) -> None:
        failures.append(KeyboardInterrupt())

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not in_main or not callable(before):  # nobody listens, or not in Python
        yield
        return
    signal.signal(signal.SIGINT, keep)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@final
class _Issuing:
    """Hands loadgen's requests over and gives it the answers, each once."""

    def __init__(self, take: Take) -> None:
        import mlperf_loadgen

        self.seconds: list[float] = []
        self.failures: list[BaseException] = []
        self._take = take
        self._complete = mlperf_loadgen.QuerySamplesComplete
        self._response = mlperf_loadgen.QuerySampleResponse
        self._open: set[int] = set()

    def __call__(self, ids: list[int], indices: list[int]) -> None:
        """Called by loadgen, in the thread that started it: an exception must not get there."""
        for query, index in zip(ids, indices, strict=True):  # one in the server scenario
            began = time.perf_counter()
            self._open.add(query)
            try:
                if self.failures:
                    self._answer(query)
                else:
                    self._take(index, functools.partial(self._answer, query))
            except Exception as error:
                self.failures.append(error)
                self._answer(query)
            self.seconds.append(time.perf_counter() - began)

    def _answer(self, query: int) -> None:
        if query in self._open:
            self._open.discard(query)
            self._complete([self._response(query, 0, 0)])


def _start_test(arrivals: Arrivals, samples: int, issue: _Issuing, folder: Path) -> None:
    import mlperf_loadgen as loadgen

    def ignore(*_: Any) -> None:
        """Samples are in memory already, and nothing is held back that could be flushed."""

    system = loadgen.ConstructFastSUT(issue, ignore)
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
    settings.min_query_count = 1  # how many are enough, its rule of early stopping says better: 459 or more for 99 %
    settings.schedule_rng_seed = settings.sample_index_rng_seed = arrivals.seed
    return settings


def _log_settings(folder: Path) -> Any:
    import mlperf_loadgen as loadgen

    settings = loadgen.LogSettings()
    settings.log_output.outdir = str(folder)
    settings.log_output.copy_summary_to_stdout = settings.log_output.copy_detail_to_stdout = False
    settings.enable_trace = True
    return settings

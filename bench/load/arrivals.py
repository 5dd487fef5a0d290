"""Requests that arrive at random: MLPerf's server scenario, and the times of every request.

Arrivals are a Poisson process. A latency runs from when a request was due, not from when a late generator issued it, to
its answer. To know the latency of every request, loadgen has to write a trace: about 0.8 kB a request in the folder
for temporary files, and some 10 microseconds of a core, in a separate thread.
"""

from dataclasses import dataclass
from typing import Any, final

from ...runtime.errors import OptionError
from ...runtime.io.files import temporary_folder
from .loadgen import Issue, require_loadgen, run_loadgen
from .loadgen_logs import NANOSECONDS, PERCENTILE, LoadgenResult, read_logs

_MAX_REQUESTS = 5_000_000


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


def run_arrivals(arrivals: Arrivals, samples: int, issue: Issue) -> LoadgenResult:
    """Let requests for `samples` different samples arrive, one a query, until all are answered.

    Raises:
        BenchError: Loadgen is not installed, or wrote no verdict.
        Exception: The first exception of `issue`, after the run; a KeyboardInterrupt too.
    """
    require_loadgen()
    with temporary_folder() as folder:
        return read_logs(folder, run_loadgen(_settings(arrivals), samples, issue, folder, trace=True))


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

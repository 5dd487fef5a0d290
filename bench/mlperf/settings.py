"""LoadGen's settings: its own official ones, with what a test has to say itself."""

from dataclasses import dataclass
from typing import Any, final

from ..load.loadgen_logs import NANOSECONDS

OFFICIAL_SECONDS = 600.0
"""Least duration of a run by MLPerf's rules."""

LOADGEN_NAMES = {
    "single-stream": "SingleStream",
    "multi-stream": "MultiStream",
    "offline": "Offline",
    "server": "Server",
}
"""Scenarios by their names here, and in LoadGen."""

MULTI_STREAM_SAMPLES = 8
"""Samples of a multi-stream query."""

KEPT_OUTPUTS = 64
"""Outputs of a run that LoadGen logs, drawn by its own random numbers; about as many, as it draws each by itself."""

_SAMPLE_BYTES, _QUERY_BYTES = 160, 360  # measured
_BENCHMARK = "lmtool"  # LoadGen has no rules for it, so those of every benchmark hold


@final
@dataclass(frozen=True)
class LoadgenTest:
    """A run of LoadGen.

    Attributes:
        scenario: One of `LOADGEN_NAMES`.
        seconds: Least duration.
        rate: Queries a second that LoadGen prepares for, samples in `offline`; in `server` those that arrive.
        samples: Samples in the library, which an offline query has at least.
        latency_bound: Seconds within which a server must answer 99 of 100 queries.
    """

    scenario: str
    seconds: float
    rate: float
    samples: int
    latency_bound: float = 0.01

    @property
    def memory_bytes(self) -> float:
        """Memory of the queries, which LoadGen prepares for more than `seconds`, and of their Python objects."""
        if self.scenario == "offline":
            return _SAMPLE_BYTES * 1.1 * self.rate * self.seconds
        return _QUERY_BYTES * (1 if self.scenario == "server" else 2) * self.rate * self.seconds

    def settings(self) -> Any:
        """LoadGen's `TestSettings`: percentiles, query counts and seeds are those of its mlperf.conf."""
        import mlperf_loadgen as loadgen

        name = LOADGEN_NAMES[self.scenario]
        settings = loadgen.TestSettings()
        settings.FromConfig("", _BENCHMARK, name, 0)
        settings.scenario = getattr(loadgen.TestScenario, name)
        settings.mode = loadgen.TestMode.PerformanceOnly
        settings.min_duration_ms = round(self.seconds * 1000)
        settings.accuracy_log_sampling_target = KEPT_OUTPUTS
        settings.single_stream_expected_latency_ns = NANOSECONDS / self.rate
        settings.multi_stream_expected_latency_ns = NANOSECONDS / self.rate
        settings.multi_stream_samples_per_query = MULTI_STREAM_SAMPLES
        settings.offline_expected_qps = settings.server_target_qps = self.rate
        settings.server_target_latency_ns = round(self.latency_bound * NANOSECONDS)
        if self.scenario == "offline":
            settings.min_query_count = self.samples
        return settings

"""MLPerf's server scenario over a stream pool: latency under random arrivals, judged by loadgen's rules.

    python -m lmtool.bench.load.mlperf_server JOB

A request is one token for a stream that has no other request. The pool runs waiting requests together, in the
predictor's runtime. The file holds one report for each rate, with the latency of every request, and the peak memory of
the process that computes.
"""

import functools
import gc
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np

from ...runtime.batches.batch_invariance import first_difference
from ...runtime.errors import BusyError
from ...runtime.pool.options import PoolOptions
from ...runtime.pool.stream_pool import StreamPool
from ...runtime.predictor import Predictor
from ..backends.registry import BACKENDS
from ..environment import peak_bytes
from ..statistics.percentile import percentile
from ..workers.job import Job, run_job
from .arrivals import Arrivals, run_arrivals
from .loadgen import Answer, stop_at_sigint
from .loadgen_logs import PERCENTILE, LoadgenResult

MAX_BATCH = 64
MAX_WAITING = 4096
LATE_SHARE = 0.25
"""Share of the p99 latency; requests that are later than that falsify it."""

_SAMPLES = 4096


@final
@dataclass(frozen=True)
class ServerReport:
    """Latencies of requests that arrive at random.

    Attributes:
        rate: Requested mean of requests a second.
        achieved_rate: Requests answered a second, from the first one's due time to the last answer.
        seconds: How long requests arrived.
        latency_bound_seconds: Bound that 99 % of the latencies must keep.
        seed: Seed of the arrivals.
        max_batch: Most streams in one call.
        max_waiting: Most requests in the queue.
        latencies: Seconds from when a request was due to its answer, in order of arrival, without refused ones.
        refused: Number of requests that found the queue full.
        calls: Number of calls of the session.
        lateness_p99: 99th percentile of the seconds from when a request was due until it was issued.
        exact: Whether each stream gets the same bits as alone.
        valid: Whether all of loadgen's rules are met and nothing was refused.
        invalid_reasons: Why it is not valid.
    """

    rate: float
    achieved_rate: float
    seconds: float
    latency_bound_seconds: float
    seed: int
    max_batch: int
    max_waiting: int
    latencies: Sequence[float]
    refused: int
    calls: int
    lateness_p99: float
    exact: bool
    valid: bool
    invalid_reasons: Sequence[str]

    @property
    def requests(self) -> int:
        """Number of requests that arrived."""
        return len(self.latencies) + self.refused

    @property
    def streams_per_call(self) -> float:
        """Mean number of requests in a call."""
        return len(self.latencies) / self.calls

    @property
    def warnings(self) -> list[str]:
        """Why the latencies are doubtful."""
        latency = self.percentile(PERCENTILE)
        if self.lateness_p99 <= LATE_SHARE * latency:
            return []
        return [
            f"requests were made {self.lateness_p99 * 1000:.2f} ms late (p99), expected at most "
            f"{LATE_SHARE:.0%} of the p99 latency, {latency * 1000:.2f} ms: the generator was held up, by other work "
            "on the machine or by Python code of the runtime"
        ]

    def percentile(self, percent: float) -> float:
        """Seconds that `percent` of the answered requests do not exceed."""
        return percentile(self.latencies, percent)

    def to_json(self) -> dict[str, Any]:
        """The figures and every latency, ready for JSON; times in seconds."""
        return {
            **self.__dict__,
            "requests": self.requests,
            "streams_per_call": self.streams_per_call,
            **{f"p{percent}": self.percentile(percent) for percent in (50, 95, 99)},
            "max": max(self.latencies),
            "warnings": self.warnings,
        }


def measure_server(
    predictor: Predictor,
    rate: float,
    seconds: float,
    latency_bound_seconds: float,
    *,
    max_batch: int = MAX_BATCH,
    max_waiting: int = MAX_WAITING,
    seed: int = 0,
) -> ServerReport:
    """Let requests arrive at a pool over `predictor`.

    An artifact that is not batch-invariant is measured too; the report says so.

    Args:
        predictor: A predictor in any runtime.
        rate: Mean requests a second.
        seconds: How long requests arrive. Loadgen's rules find a run of less than 459 requests too short; if some are
            late, it takes more.
        latency_bound_seconds: Bound that 99 % of the latencies must keep.
        max_batch: Most streams in one call.
        max_waiting: Most requests in the queue; another one is refused, which makes the run invalid.
        seed: Seed of the arrivals and the tokens.

    Raises:
        BenchError: Loadgen is not installed.
        OptionError: An argument is outside its range.
        PoolError: A call of the runtime failed.
    """
    arrivals = Arrivals(rate, seconds, latency_bound_seconds, seed)
    options = server_options(max_batch, max_waiting)
    exact = _is_exact(predictor, options.batch_sizes)
    warm_up(predictor, options.batch_sizes)
    with StreamPool(predictor, options) as pool:
        requests = _Requests(pool, seed)
        with frozen_garbage():
            result = run_arrivals(arrivals, _SAMPLES, requests.issue)
            pool.close()
        requests.require_success()
        return _report(arrivals, options, result, requests.refused, pool.stats.calls, exact)


def server_options(max_batch: int = MAX_BATCH, max_waiting: int = MAX_WAITING) -> PoolOptions:
    """A pool for requests of one token each, inexact ones too."""
    return PoolOptions(
        max_streams=max_waiting + 2 * max_batch,  # waiting, running, just answered
        max_waiting=max_waiting,
        max_batch=max_batch,
        max_tokens=max_batch,
        allow_inexact=True,
    )


@contextmanager
def frozen_garbage() -> Iterator[None]:
    """Keep the garbage collector from walking through all imported modules: with torch, that takes 0.1 s."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@functools.lru_cache(maxsize=1)
def _is_exact(predictor: Predictor, batch_sizes: tuple[int, ...]) -> bool:
    """Whether a row of a batch equals the same row alone; cached: it takes a while with a large network."""
    return predictor.artifact.batch_invariant and first_difference(predictor, batch_sizes) is None


def warm_up(predictor: Predictor, batch_sizes: Sequence[int]) -> None:
    """Run each batch size once: a runtime may prepare each shape when it first sees it."""
    for size in batch_sizes:
        predictor.step(np.zeros((size, 1), np.int64), predictor.initial_state(size))


@final
class _Requests:
    """Submits requests to a pool, each for the stream that is idle longest."""

    def __init__(self, pool: StreamPool, seed: int) -> None:
        self.refused: set[int] = set()
        self._pool = pool
        self._idle = deque(pool.open_stream() for _ in range(pool.options.max_streams))
        self._tokens = list(np.random.default_rng(seed).integers(0, len(pool.predictor.vocabulary), (_SAMPLES, 1)))
        self._count = 0
        self._failure: BaseException | None = None

    def issue(self, samples: list[int], answer: Answer) -> None:
        """Submit one request; answer it when its result is there or it is refused."""
        self.require_success()
        number, stream = self._count, self._idle.popleft()
        self._count += 1

        def answered(request: Future[Any]) -> None:
            self._failure = self._failure or request.exception()
            self._idle.append(stream)
            answer(0, None)

        try:
            self._pool.submit(stream, self._tokens[samples[0]]).add_done_callback(answered)
        except BusyError:
            self.refused.add(number)
            self._idle.append(stream)
            answer(0, None)

    def require_success(self) -> None:
        """Raise the first exception of a call."""
        if self._failure is not None:
            raise self._failure


def _report(
    arrivals: Arrivals, options: PoolOptions, result: LoadgenResult, refused: set[int], calls: int, exact: bool
) -> ServerReport:
    answered = np.ones(len(result.latencies), bool)
    answered[list(refused)] = False
    latencies = result.latencies[answered]
    full = [f"{len(refused):,} of {len(answered):,} requests were refused: {options.max_waiting:,} waited already"]
    last_answer = float((result.due[answered] + latencies).max())
    return ServerReport(
        **asdict(arrivals),
        achieved_rate=(len(latencies) - 1) / last_answer,  # as loadgen counts: time starts with the first request
        max_batch=options.max_batch,
        max_waiting=options.max_waiting,
        latencies=latencies.tolist(),
        refused=len(refused),
        calls=calls,
        lateness_p99=percentile(result.lateness, 99),
        exact=exact,
        valid=result.valid and not refused,
        invalid_reasons=[*(full if refused else []), *result.invalid_reasons],
    )


def _measure(job: Job) -> dict[str, Any]:
    """One report for each scenario's rate."""
    backend = BACKENDS[job.backend].load(job.source)
    reports = [measure_server(backend.predictor, each.rate, job.seconds, job.latency_bound) for each in job.scenarios]
    return {"reports": [report.to_json() for report in reports], "peak_bytes": peak_bytes(backend.pid)}


if __name__ == "__main__":
    stop_at_sigint()
    run_job(_measure)

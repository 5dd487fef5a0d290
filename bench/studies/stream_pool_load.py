"""Measure a stream pool: throughput by streams per call, latency under random arrivals, memory of open streams.

    python bench/studies/stream_pool_load.py --model FILE [--threads N] [--streams N] [--seconds S]

Throughput is that of one-token requests with a fixed number of them in each call and the next ones already queued; the
largest throughput is the capacity. Then requests arrive at random at fractions of the capacity, as in `mlperf_server`.
Memory is the process's resident set before the streams are opened and after each has read one token, ids included.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, final

import numpy as np
from common.program import run_program
from lmtool.bench.environment import describe_environment, resident_bytes
from lmtool.bench.load.loadgen import missing, stop_at_sigint
from lmtool.bench.load.mlperf_server import ServerReport, measure_server
from lmtool.runtime.io.text_table import text_table
from lmtool.runtime.pool.options import PoolOptions
from lmtool.runtime.pool.stream_pool import StreamPool
from lmtool.runtime.predictor import Predictor
from numpy.typing import NDArray

_LINGER_SECONDS = 60.0
"""Longer than any call, so that each call has exactly the intended number of streams."""


@final
@dataclass(frozen=True)
class Memory:
    """Memory of open streams, in bytes: their states, and the resident set before they are opened and after.

    The resident set before holds the interpreter with this package, and the model.
    """

    streams: int
    state_bytes: int
    resident_before: int
    resident_after: int

    def format(self) -> str:
        """The measurement in one line."""
        grown = self.resident_after - self.resident_before
        return (
            f"{self.streams:,} streams: states {self.state_bytes / 1e6:,.0f} MB; the process "
            f"{self.resident_before / 1e6:,.0f} MB before, {self.resident_after / 1e6:,.0f} MB after, "
            f"{grown / self.streams:,.0f} bytes a stream"
        )


def measure_throughput(predictor: Predictor, together: int, seconds: float, allow_inexact: bool) -> float:
    """Tokens per second of one-token requests, `together` in each call; the next ones are queued meanwhile."""
    options = PoolOptions(
        max_streams=2 * together,
        max_waiting=2 * together,
        max_batch=together,
        max_tokens=together,
        linger_seconds=_LINGER_SECONDS,
        allow_inexact=allow_inexact,
    )
    with StreamPool(predictor, options) as pool:
        tokens = _random_tokens(predictor)
        sets = [[pool.open_stream() for _ in range(together)] for _ in range(2)]
        running = [_submit_all(pool, streams, tokens) for streams in sets]
        answered, start = 0, perf_counter()
        while perf_counter() - start < seconds:
            for index, streams in enumerate(sets):
                _wait_for_all(running[index])
                answered += together
                running[index] = _submit_all(pool, streams, tokens)
        speed = answered / (perf_counter() - start)
        for requests in running:
            _wait_for_all(requests)
    return speed


def measure_memory(predictor: Predictor, streams: int, allow_inexact: bool) -> Memory:
    """Open `streams` streams and let each read a token."""
    together = 256
    options = PoolOptions(max_streams=streams, max_waiting=together, max_batch=together, allow_inexact=allow_inexact)
    with StreamPool(predictor, options) as pool:
        tokens, before = _random_tokens(predictor), resident_bytes()
        ids = np.fromiter((pool.open_stream() for _ in range(streams)), np.int64, streams)
        for start in range(0, streams, together):
            _wait_for_all(_submit_all(pool, ids[start : start + together].tolist(), tokens))
        return Memory(streams, pool.stats.state_bytes, before, resident_bytes())


def _random_tokens(predictor: Predictor) -> Iterator[NDArray[np.int64]]:
    """Endless requests of one random token: int64 [1]."""
    tokens = np.random.default_rng(0).integers(0, len(predictor.vocabulary), (4096, 1))
    while True:
        yield from tokens


def _submit_all(pool: StreamPool, streams: Sequence[int], tokens: Iterator[NDArray[np.int64]]) -> list[Future[Any]]:
    return [pool.submit(stream, next(tokens)) for stream in streams]


def _wait_for_all(requests: list[Future[Any]]) -> None:
    wait(requests)
    for request in requests:
        request.result()


def format_report(speeds: Mapping[int, float], loads: Mapping[float, ServerReport], memory: Memory | None) -> str:
    """The measurements as text: `speeds` by streams of a call, `loads` by the fraction of the capacity."""
    rows = [("streams a call", "tokens/s"), *((str(count), f"{speed:,.0f}") for count, speed in speeds.items())]
    lines = [*text_table(rows, ">"), "", *_format_loads(loads)]
    return "\n".join(lines if memory is None else [*lines, "", memory.format()])


def _format_loads(loads: Mapping[float, ServerReport]) -> list[str]:
    """A line for each load, then the reasons why one is invalid, and warnings."""
    reason = missing()
    if reason is not None:
        return [f"latency under random arrivals was not measured: {reason}"]
    rows: list[tuple[str, ...]] = [("of capacity", "requests/s", "p50", "p99", "a call", "refused", "")]
    rows += [
        (
            f"{fraction:.0%}",
            f"{load.rate:,.0f}",
            *(f"{load.percentile(percent) * 1000:,.2f} ms" for percent in (50, 99)),
            f"{load.streams_per_call:.1f}",
            f"{load.refused:,}",
            "VALID" if load.valid else "INVALID",
        )
        for fraction, load in loads.items()
    ]
    remarks = [
        f"{fraction:.0%}: {remark}"
        for fraction, load in loads.items()
        for remark in (*load.invalid_reasons, *load.warnings)
    ]
    return [*text_table(rows, ">"), *remarks]


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="artifact")
    parser.add_argument("--threads", type=int, default=1, help="threads of a call")
    parser.add_argument("--together", type=int, nargs="+", default=[1, 8, 64, 256], help="streams of a call")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.5, 0.8], help="arrivals, of the capacity")
    parser.add_argument("--latency-bound-ms", type=float, default=100.0, help="bound of 99 %% of the latencies")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement")
    parser.add_argument("--streams", type=int, default=1_000_000, help="open streams whose memory is measured; 0: none")
    parser.add_argument("--allow-inexact", action="store_true", help="take an artifact that is not batch-invariant")
    options = parser.parse_args()
    predictor, inexact = Predictor.load(options.model, threads=options.threads), options.allow_inexact
    memory = measure_memory(predictor, options.streams, inexact) if options.streams else None
    speeds = {count: measure_throughput(predictor, count, options.seconds, inexact) for count in options.together}
    best, capacity = max(speeds.items(), key=lambda item: item[1])
    bound = options.latency_bound_ms / 1000
    loads = {
        fraction: measure_server(predictor, fraction * capacity, options.seconds, bound, max_batch=best)
        for fraction in options.fractions
        if missing() is None
    }
    environment = describe_environment()
    print(f"{environment['processor']}, {environment['usable_cores']} cores, {options.threads} threads a call")
    print(format_report(speeds, loads, memory))


if __name__ == "__main__":
    stop_at_sigint()
    run_program(main)

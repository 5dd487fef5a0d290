"""What a stream pool does under load: throughput by streams per call, latency at given arrivals, memory of its streams.

    python -m lmtool.bench.load.stream_pool --model FILE [--threads N] [--streams N] [--seconds S]

Throughput is that of requests of one token, so many in each call, the next ones waiting already; the largest of them is
the capacity. Then requests arrive at random at fractions of it, as in `server_scenario`. Memory is the process's
resident set before the streams are opened and after each has read one token, ids included.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import LmtoolError
from ...runtime.pool.options import PoolOptions
from ...runtime.pool.stream_pool import StreamPool
from ...runtime.predictor import Predictor
from ..environment import describe_environment, resident_bytes
from .loadgen import missing, stop_at_sigint
from .mlperf_server import ServerReport, measure_server

_LINGER_SECONDS = 60.0
"""Longer than any call, so that a call has exactly as many streams as it should."""


@final
@dataclass(frozen=True)
class Throughput:
    """Requests of one token, `together` in each call: tokens per second over the whole measurement."""

    together: int
    tokens_per_second: float


@final
@dataclass(frozen=True)
class Memory:
    """What open streams took, in bytes: their states by count, and the resident set before they were opened and after.

    The set before holds the interpreter with this package, and the model.
    """

    streams: int
    state_bytes: int
    resident_before: int
    resident_after: int


def measure_throughput(predictor: Predictor, together: int, seconds: float, allow_inexact: bool) -> Throughput:
    """Two sets of streams take turns, so that one waits while the other runs."""
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
        answered, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            for index, streams in enumerate(sets):
                _results(running[index])
                answered += together
                running[index] = _submit_all(pool, streams, tokens)
        speed = answered / (time.perf_counter() - start)
        for requests in running:
            _results(requests)
    return Throughput(together, speed)


def measure_memory(predictor: Predictor, streams: int, allow_inexact: bool) -> Memory:
    """Open so many streams and let each read a token."""
    together = 256
    options = PoolOptions(max_streams=streams, max_waiting=together, max_batch=together, allow_inexact=allow_inexact)
    with StreamPool(predictor, options) as pool:
        tokens, before = _random_tokens(predictor), resident_bytes()
        ids = np.fromiter((pool.open_stream() for _ in range(streams)), np.int64, streams)
        for start in range(0, streams, together):
            _results(_submit_all(pool, ids[start : start + together].tolist(), tokens))
        return Memory(streams, pool.stats.state_bytes, before, resident_bytes())


def _random_tokens(predictor: Predictor) -> Iterator[NDArray[np.int64]]:
    """Requests of one random token, without end."""
    tokens = np.random.default_rng(0).integers(0, len(predictor.vocabulary), (4096, 1))
    while True:
        yield from tokens


def _submit_all(pool: StreamPool, streams: Sequence[int], tokens: Iterator[NDArray[np.int64]]) -> list[Future[Any]]:
    return [pool.submit(stream, next(tokens)) for stream in streams]


def _results(requests: list[Future[Any]]) -> None:
    wait(requests)
    for request in requests:
        request.result()


def report(throughputs: list[Throughput], loads: dict[float, ServerReport], memory: Memory | None) -> str:
    """The measurements as text; `loads` by the fraction of the capacity."""
    lines = [f"{'streams a call':>14}  {'tokens/s':>9}"]
    lines += [f"{found.together:>14}  {found.tokens_per_second:>9,.0f}" for found in throughputs]
    lines += ["", *_load_table(loads)]
    if memory is not None:
        grown = memory.resident_after - memory.resident_before
        lines += [
            "",
            f"{memory.streams:,} streams: states {memory.state_bytes / 1e6:,.0f} MB; the process "
            f"{memory.resident_before / 1e6:,.0f} MB before, {memory.resident_after / 1e6:,.0f} MB after, "
            f"{grown / memory.streams:,.0f} bytes a stream",
        ]
    return "\n".join(lines)


def _load_table(loads: dict[float, ServerReport]) -> list[str]:
    """A line for each load, then what makes one invalid or doubtful."""
    reason = missing()
    if reason is not None:
        return [f"latency under random arrivals was not measured: {reason}"]
    head = f"{'of capacity':>14}  {'requests/s':>10}  {'p50':>9}  {'p99':>9}  {'a call':>6}  {'refused':>7}"
    remarks = [
        f"{fraction:.0%}: {remark}" for fraction, found in loads.items() for remark in (*found.reasons, *found.warnings)
    ]
    return [head, *(_load_line(fraction, found) for fraction, found in loads.items()), *remarks]


def _load_line(fraction: float, found: ServerReport) -> str:
    p50, p99 = (f"{found.percentile(percent) * 1000:,.2f} ms" for percent in (50, 99))
    verdict = "VALID" if found.valid else "INVALID"
    return (
        f"{fraction:>14.0%}  {found.rate:>10,.0f}  {p50:>9}  {p99:>9}  {found.streams_per_call:>6.1f}  "
        f"{found.refused:>7,}  {verdict}"
    )


def _measure(chosen: argparse.Namespace) -> str:
    """All measurements that were asked for, as text."""
    predictor, inexact = Predictor.load(chosen.model, threads=chosen.threads), chosen.allow_inexact
    memory = measure_memory(predictor, chosen.streams, inexact) if chosen.streams else None
    throughputs = [measure_throughput(predictor, count, chosen.seconds, inexact) for count in chosen.together]
    best = max(throughputs, key=lambda found: found.tokens_per_second)
    loads = {
        fraction: measure_server(
            predictor,
            fraction * best.tokens_per_second,
            chosen.seconds,
            chosen.latency_bound_ms / 1000,
            max_batch=best.together,
        )
        for fraction in chosen.fractions
        if missing() is None
    }
    return report(throughputs, loads, memory)


def main() -> None:
    """Parse the arguments, measure, print; an error of ours becomes a message and its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lmtool.bench.load.stream_pool", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="artifact")
    parser.add_argument("--threads", type=int, default=1, help="threads of one call")
    parser.add_argument("--together", type=int, nargs="+", default=[1, 8, 64, 256], help="streams in one call")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.5, 0.8], help="arrivals, of the capacity")
    parser.add_argument("--latency-bound-ms", type=float, default=100.0, help="what 99 %% of the latencies must keep")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement")
    parser.add_argument("--streams", type=int, default=1_000_000, help="open streams whose memory is measured; 0: none")
    parser.add_argument("--allow-inexact", action="store_true", help="take an artifact that is not batch-invariant")
    chosen = parser.parse_args()
    try:
        found = _measure(chosen)
    except LmtoolError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    environment = describe_environment()
    print(f"{environment['processor']}, {environment['usable_cores']} cores, {chosen.threads} threads a call")
    print(found)


if __name__ == "__main__":
    stop_at_sigint()
    main()

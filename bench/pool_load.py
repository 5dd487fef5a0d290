"""What a stream pool does under load: throughput by streams per call, latency at given arrivals, memory of its streams.

    python -m lmtool.bench.pool_load --model FILE [--threads N] [--streams N] [--seconds S]

Throughput is that of requests of one token, so many in each call, the next ones waiting already; the largest of them is
the capacity. Then requests arrive at random (a Poisson process) at fractions of it, each for a stream that has none
waiting, and a latency runs from when a request was due, not from when a late generator got round to it, to its result.
Memory is the process's resident set before the streams are opened and after each has read one token, ids included.
"""

import argparse
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import BusyError
from ..runtime.pool import StreamPool
from ..runtime.pool_options import PoolOptions
from ..runtime.predictor import Predictor
from .environment import describe_environment
from .memory import resident_bytes

_WAITING_UNDER_LOAD = 4096
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


@final
@dataclass
class Load:
    """Random arrivals and what became of them.

    Attributes:
        fraction: Of the capacity.
        rate: Arrivals a second.
        latencies: Seconds from when a request was due to its result.
        refused: Requests that found the queue full.
        calls: Calls of the session.
    """

    fraction: float
    rate: float
    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    calls: int = 0


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


def measure_load(predictor: Predictor, load: Load, max_batch: int, seconds: float, allow_inexact: bool) -> Load:
    """Fill in the latencies of requests that arrive for so many seconds at the load's rate."""
    options = PoolOptions(
        max_streams=_WAITING_UNDER_LOAD + 2 * max_batch,  # those that wait, those that run, those just answered
        max_waiting=_WAITING_UNDER_LOAD,
        max_batch=max_batch,
        max_tokens=max_batch,
        allow_inexact=allow_inexact,
    )
    random = np.random.default_rng(0)
    with StreamPool(predictor, options) as pool:
        streams = [pool.open_stream() for _ in range(options.max_streams)]
        gaps = random.exponential(1 / load.rate, int(load.rate * seconds) + 1)
        _arrive(pool, load, streams, time.perf_counter() + np.cumsum(gaps), _random_tokens(predictor))
        pool.close()  # which answers what waits
        load.calls = pool.stats.calls
    return load


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


def _arrive(
    pool: StreamPool,
    load: Load,
    streams: list[int],
    due: NDArray[np.float64],
    tokens: Iterator[NDArray[np.int64]],
) -> None:
    """Submit one request at each time, for the stream that has been idle longest: there are more than can wait."""
    idle = deque(streams)
    for moment in due.tolist():
        delay = moment - time.perf_counter()
        if delay > 0:
            time.sleep(delay)
        stream = idle.popleft()

        def answered(_: object, moment: float = moment, stream: int = stream) -> None:
            load.latencies.append(time.perf_counter() - moment)
            idle.append(stream)

        try:
            pool.submit(stream, next(tokens)).add_done_callback(answered)
        except BusyError:
            load.refused += 1
            idle.append(stream)


def report(throughputs: list[Throughput], loads: list[Load], memory: Memory | None) -> str:
    """The measurements as text."""
    lines = [f"{'streams a call':>14}  {'tokens/s':>9}"]
    lines += [f"{found.together:>14}  {found.tokens_per_second:>9,.0f}" for found in throughputs]
    lines += ["", f"{'of capacity':>14}  {'requests/s':>10}  {'p50':>9}  {'p99':>9}  {'a call':>6}  {'refused':>7}"]
    lines += [_load_line(load) for load in loads]
    if memory is not None:
        grown = memory.resident_after - memory.resident_before
        lines += [
            "",
            f"{memory.streams:,} streams: states {memory.state_bytes / 1e6:,.0f} MB; the process "
            f"{memory.resident_before / 1e6:,.0f} MB before, {memory.resident_after / 1e6:,.0f} MB after, "
            f"{grown / memory.streams:,.0f} bytes a stream",
        ]
    return "\n".join(lines)


def _load_line(load: Load) -> str:
    p50, p99 = (f"{value * 1000:,.2f} ms" for value in np.percentile(load.latencies, (50, 99)))
    together = len(load.latencies) / load.calls
    return f"{load.fraction:>13.0%}  {load.rate:>10,.0f}  {p50:>9}  {p99:>9}  {together:>6.1f}  {load.refused:>7,}"


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m lmtool.bench.pool_load", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="artifact")
    parser.add_argument("--threads", type=int, default=1, help="threads of one call")
    parser.add_argument("--together", type=int, nargs="+", default=[1, 8, 64, 256], help="streams in one call")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.5, 0.8], help="arrivals, of the capacity")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement")
    parser.add_argument("--streams", type=int, default=1_000_000, help="open streams whose memory is measured; 0: none")
    parser.add_argument("--allow-inexact", action="store_true", help="take an artifact that is not batch-invariant")
    chosen = parser.parse_args()
    predictor, inexact = Predictor.load(chosen.model, threads=chosen.threads), chosen.allow_inexact
    memory = measure_memory(predictor, chosen.streams, inexact) if chosen.streams else None
    throughputs = [measure_throughput(predictor, count, chosen.seconds, inexact) for count in chosen.together]
    best = max(throughputs, key=lambda found: found.tokens_per_second)
    loads = [Load(fraction, fraction * best.tokens_per_second) for fraction in chosen.fractions]
    for load in loads:
        measure_load(predictor, load, best.together, chosen.seconds, inexact)
    environment = describe_environment()
    print(f"{environment['processor']}, {environment['usable_cores']} cores, {chosen.threads} threads a call")  # noqa: T201
    print(report(throughputs, loads, memory))  # noqa: T201


if __name__ == "__main__":
    main()

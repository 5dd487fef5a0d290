"""Measure `lmtool serve` under load: latency, throughput and memory of many clients, an overload, and the recovery.

    python bench/studies/http_load.py --model FILE [--clients 50] [--seconds 60] [--slots 64] [--requests mixed]

The server is a process on loopback. Each client sends one request after the other over a kept connection. Of 20
requests, 11 are completions (prompts of 32 random tokens, 16 tokens to write), 6 streamed completions, 3 suggestions;
or all are of one kind.

First a pool in this process writes as many texts at once as there are clients, from such prompts, without a server;
tokens/s of the phases are also given as a share of the pool's.

There are three phases. The load has `--clients` clients. The overload has three times as many clients as the server has
slots, for a third of the time; they wait 0.1 s after a refusal (429), less than the server asks for. The recovery is
the load again. The exit code is 3 if a request fails in any phase, if nothing is refused in the overload, if the load
or the recovery has a refusal or no answer, or if the server's resident set grows by more than a fifth and 20 MB between
the end of the load and the end of the recovery.
"""

import argparse
import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from common.http_client import HttpClient, Reply, ServerProcess
from common.program import run_program
from lmtool.bench.environment import describe_environment
from lmtool.bench.statistics.percentile import percentile
from lmtool.runtime import GenerationJob, Predictor, StreamPool
from lmtool.runtime.artifact.artifact import Artifact
from lmtool.runtime.errors import OptionError
from lmtool.runtime.io.files import json_text, write_atomically
from lmtool.runtime.io.text_table import text_table

_FORMAT = 1
_PROMPT_TOKENS, _WRITTEN_TOKENS = 32, 16
_MIXED = ("completion",) * 11 + ("stream",) * 6 + ("suggest",) * 3
_KINDS = {"mixed": _MIXED, **{kind: (kind,) for kind in dict.fromkeys(_MIXED)}}
_BODIES = 256
_OVERLOAD = 3
_PAUSE_SECONDS = 0.1
_WARM_UP_SECONDS = 1.0
_REFUSED = 429
_GATE_NOT_MET = 3
_GROWTH, _GROWTH_BYTES = 1.2, 20_000_000
"""Allowed growth of the resident set; the allocator may keep buffers of the overload."""

_PERCENTILES = {"p50": 50, "p95": 95, "p99": 99, "longest": 100}
_HEADER = (
    *("phase", "clients", "requests/s", "tokens/s", "pool", *_PERCENTILES, "event p50", "event p99"),
    *("loop", "others", "429", "failed"),
    "memory at start, middle, end",
)


@final
@dataclass
class Phase:
    """Measurements of one phase.

    Attributes:
        seconds: Duration, up to the last answer.
        latencies: Seconds of each request that was answered with 200.
        first_events: Seconds to the first event of each stream.
        statuses: Number of answers with each HTTP status.
        errors: Number of other errors, by name.
        processor_seconds: Processor time of the server's event loop, and of its other threads.
        resident: Resident set of the server at the start, in the middle and at the end, in bytes.
    """

    name: str
    clients: int
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    first_events: list[float] = field(default_factory=list)
    tokens: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    processor_seconds: tuple[float, float] = (0.0, 0.0)
    resident: list[int] = field(default_factory=list)

    @property
    def refused(self) -> float:
        """Share of the requests that were refused."""
        return self.statuses[_REFUSED] / max(self.statuses.total(), 1)

    @property
    def failures(self) -> int:
        """Answers that are neither 200 nor 429, and requests without an answer."""
        return self.statuses.total() - self.statuses[200] - self.statuses[_REFUSED] + self.errors.total()

    def record(self, kind: str, reply: Reply) -> None:
        """Add an answer."""
        self.statuses[reply.status] += 1
        if reply.status != 200:
            return
        self.latencies.append(reply.seconds)
        if reply.first_event is not None:
            self.first_events.append(reply.first_event)
        if kind != "suggest":
            self.tokens += _WRITTEN_TOKENS
        if kind == "stream" and not reply.body.endswith(b"data: [DONE]\n\n"):
            self.errors["a stream ended without [DONE]"] += 1

    def to_json(self) -> dict[str, Any]:
        """The figures, ready for JSON; times in seconds, sizes in bytes."""
        return {
            "name": self.name,
            "clients": self.clients,
            "seconds": self.seconds,
            "requests": self.statuses.total(),
            "requests_per_second": len(self.latencies) / self.seconds,
            "tokens_per_second": self.tokens / self.seconds,
            "latency": _percentiles(self.latencies),
            "first_event": _percentiles(self.first_events),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "refused": self.refused,
            "failures": self.failures,
            "errors": dict(self.errors),
            "processor_seconds": self.processor_seconds,
            "resident_bytes": self.resident,
        }


def _percentiles(seconds: list[float]) -> dict[str, float] | None:
    return {name: percentile(seconds, percent) for name, percent in _PERCENTILES.items()} if seconds else None


@final
class Load:
    """The clients of one server."""

    def __init__(self, model: Path, server: ServerProcess, kinds: Sequence[str]) -> None:
        self._server = server
        client = HttpClient("127.0.0.1", server.port)
        self._requests = _draw_requests(len(Artifact.read(model).vocabulary), client, kinds)

    async def phase(self, name: str, clients: int, seconds: float) -> Phase:
        """Run `clients` clients for `seconds`; each ends after an answer."""
        phase, start, before = Phase(name, clients), time.perf_counter(), self._server.processor_seconds
        phase.resident.append(self._server.resident_bytes)
        running = [asyncio.ensure_future(self._client(phase, number, start + seconds)) for number in range(clients)]
        await asyncio.sleep(seconds / 2)
        phase.resident.append(self._server.resident_bytes)
        await asyncio.gather(*running)
        phase.resident.append(self._server.resident_bytes)
        phase.seconds = time.perf_counter() - start
        loop, others = self._server.processor_seconds
        phase.processor_seconds = loop - before[0], others - before[1]
        return phase

    async def _client(self, phase: Phase, number: int, end: float) -> None:
        client = HttpClient("127.0.0.1", self._server.port)
        index = number * 7
        while time.perf_counter() < end:
            kind, request = self._requests[index % len(self._requests)]
            index += 1
            try:
                reply = await client.send(request)
            except (OSError, EOFError) as error:
                phase.errors[type(error).__name__] += 1
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            phase.record(kind, reply)
            if reply.status == _REFUSED:
                await asyncio.sleep(_PAUSE_SECONDS)
        await client.close()


def _draw_requests(vocabulary_size: int, client: HttpClient, kinds: Sequence[str]) -> list[tuple[str, bytes]]:
    """Draw requests; prompts are token ids, so that they do not depend on the language."""
    random = np.random.default_rng(0)
    requests = []
    for number in range(_BODIES):
        kind, ids = kinds[number % len(kinds)], random.integers(0, vocabulary_size, _PROMPT_TOKENS).tolist()
        path, body = "/v1/suggest", {"text": "the", "count": 5}
        if kind != "suggest":
            path = "/v1/completions"
            body = {"prompt": ids, "max_tokens": _WRITTEN_TOKENS, "seed": number, "stream": kind == "stream"}
        requests.append((kind, client.request(path, json.dumps(body).encode())))
    random.shuffle(requests)
    return requests


async def measure(load: Load, clients: int, seconds: float, slots: int) -> list[Phase]:
    """Load, overload and recovery, after a warm-up."""
    await load.phase("warm-up", clients, min(seconds, _WARM_UP_SECONDS))
    return [
        await load.phase("load", clients, seconds),
        await load.phase("overload", _OVERLOAD * slots, seconds / 3),
        await load.phase("recovery", clients, seconds / 3),
    ]


def measure_pool(model: Path, texts: int, seconds: float, threads: int) -> float:
    """Tokens per second of a pool that writes `texts` texts at once, each of a prompt."""
    predictor = Predictor.load(model, threads=threads)
    prompts = np.random.default_rng(0).integers(0, len(predictor.vocabulary), (_BODIES, _PROMPT_TOKENS))
    with StreamPool(predictor) as pool:
        jobs: deque[GenerationJob] = deque()
        written, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            while len(jobs) < texts:
                jobs.append(pool.generate(prompts[written % _BODIES], _WRITTEN_TOKENS, seed=written))
            jobs.popleft().result()
            written += 1
        return written * _WRITTEN_TOKENS / (time.perf_counter() - start)


def format_report(phases: Sequence[Phase], pool_rate: float) -> str:
    """The figures as a table, one line for each phase; `pool_rate` is the pool's tokens per second."""
    rows = [_row(phase, pool_rate) for phase in phases]
    table = text_table([_HEADER, *rows], "<" + ">" * (len(_HEADER) - 2) + "<")
    notes = (
        "event: the first event of a stream",
        "429: share of refused requests",
        f"pool: share of the {pool_rate:,.0f} tokens/s that the pool writes without a server",
        "loop, others: processor time of the server's event loop and of its other threads, us a token",
    )
    return "\n".join([*table, "; ".join(notes)])


def _row(phase: Phase, pool_rate: float) -> tuple[str, ...]:
    figures = phase.to_json()
    latency, first = (figures[name] or {} for name in ("latency", "first_event"))
    times = [*(latency.get(name) for name in _PERCENTILES), first.get("p50"), first.get("p99")]
    memory = ", ".join(f"{size / 1e6:.0f}" for size in phase.resident)
    return (
        phase.name,
        str(phase.clients),
        f"{figures['requests_per_second']:,.0f}",
        f"{figures['tokens_per_second']:,.0f}",
        f"{figures['tokens_per_second'] / pool_rate:.0%}",
        *("-" if seconds is None else f"{seconds * 1000:,.1f} ms" for seconds in times),
        *(f"{seconds / max(phase.tokens, 1) * 1e6:,.0f}" for seconds in phase.processor_seconds),
        f"{phase.refused:.0%}",
        str(phase.failures),
        f"{memory} MB",
    )


def passed(phases: Sequence[Phase]) -> bool:
    """Whether no request failed, only the overload was refused, and the server recovered.

    Args:
        phases: Load, overload and recovery.
    """
    load, overload, recovery = phases
    return (
        all(not phase.failures for phase in phases)
        and all(phase.statuses[200] and not phase.statuses[_REFUSED] for phase in (load, recovery))
        and overload.statuses[_REFUSED] > 0
        and recovery.resident[-1] <= _GROWTH * load.resident[-1] + _GROWTH_BYTES
    )


def main() -> int:
    """Parse the arguments, measure, print and write the figures; the exit code tells whether the gate was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="artifact")
    parser.add_argument("--clients", type=int, default=50, help="number of clients, each with one request at a time")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the load; of the others a third")
    parser.add_argument("--slots", type=int, default=64, help="choices that the server writes at once")
    parser.add_argument("--threads", type=int, default=1, help="threads of a call")
    parser.add_argument("--requests", choices=_KINDS, default="mixed", help="kind of the requests")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    if options.clients < 1 or options.slots < options.clients or not options.seconds > 0:
        raise OptionError(
            f"clients is {options.clients}, slots is {options.slots}, seconds is {options.seconds}, expected 1 client "
            "or more, as many slots or more, and more than 0 seconds"
        )
    pool_rate = measure_pool(options.model, options.clients, options.seconds / 6, options.threads)
    with ServerProcess(options.model, options.slots, options.threads) as server:
        load = Load(options.model, server, _KINDS[options.requests])
        phases = asyncio.run(measure(load, options.clients, options.seconds, options.slots))
    environment = describe_environment()
    machine = f"{environment['processor']}, {environment['usable_cores']} cores shared with the clients"
    print(f"{machine}; {options.slots} slots\n{format_report(phases, pool_rate)}")
    if options.json is not None:
        value = {"format": _FORMAT, "environment": environment, "slots": options.slots, "threads": options.threads}
        value["requests"] = options.requests
        value["pool_tokens_per_second"] = pool_rate
        value["phases"] = [phase.to_json() for phase in phases]
        write_atomically(options.json, json_text(value, indent=1).encode())
    return 0 if passed(phases) else _GATE_NOT_MET


if __name__ == "__main__":
    run_program(main)

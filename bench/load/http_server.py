"""What a server does under load: latency and throughput of many clients, an overload, and what is left of it.

    python -m lmtool.bench.load.http_server --model FILE [--clients 50] [--seconds 60] [--slots 64] [--json FILE]

`lmtool serve` runs as a process of its own on loopback. Each client sends one request after the other over a connection
that it keeps: of 20, 11 completions (prompts of 32 random tokens, 16 tokens to write), 6 streamed ones, 3 suggestions.
First as many clients as were asked for; then, for a third of that time, three times as many as there are slots, which
wait 0.1 s after a refusal (429) although they are told to wait longer; then the first ones again. Exit code 3 where
there was any other error, where the overload had no refusal, where the load or the recovery had one or had no answer,
and where the server's resident set grew by more than a fifth and 20 MB from the load's end to the recovery's.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

from ...runtime.artifact.artifact import Artifact
from ...runtime.errors import LmtoolError, OptionError
from ...runtime.io.files import json_text, write_atomically
from ..environment import describe_environment
from .http_client import HttpClient, Reply, ServerProcess

_FORMAT = 1
_PROMPT_TOKENS, _WRITTEN_TOKENS = 32, 16
_KINDS = ("completion",) * 11 + ("stream",) * 6 + ("suggest",) * 3
_BODIES = 256
_OVERLOAD = 3
_PAUSE_SECONDS = 0.1
_WARM_UP_SECONDS = 1.0
_REFUSED = 429
_GATE_NOT_MET = 3
_GROWTH, _GROWTH_BYTES = 1.2, 20_000_000
"""How much larger a server may be that has recovered; buffers of an overload may stay with the allocator."""


@final
@dataclass
class Phase:
    """What so many clients saw.

    Attributes:
        name: Which phase it is.
        clients: How many clients.
        seconds: How long, until the last answer.
        latencies: Seconds of each request that was answered with 200.
        first_events: Seconds to the first event of each stream.
        tokens: Tokens that were written.
        statuses: How many answers had each status.
        errors: What else went wrong, and how often.
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
    resident: list[int] = field(default_factory=list)

    @property
    def refused(self) -> float:
        """The share of the requests that were refused."""
        return self.statuses[_REFUSED] / max(self.statuses.total(), 1)

    @property
    def failures(self) -> int:
        """Answers that were neither 200 nor 429, and requests without an answer."""
        return self.statuses.total() - self.statuses[200] - self.statuses[_REFUSED] + self.errors.total()

    def take(self, kind: str, reply: Reply) -> None:
        """Note an answer."""
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
            "resident_bytes": self.resident,
        }


def _percentiles(seconds: list[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    found = np.percentile(seconds, [50, 95, 99, 100]).tolist()
    return dict(zip(("p50", "p95", "p99", "longest"), found, strict=True))


@final
class Load:
    """The clients of one server."""

    def __init__(self, model: Path, server: ServerProcess) -> None:
        """Draw the requests: prompts of token ids, so that nothing about them depends on the language."""
        self._server = server
        self._requests = _draw_requests(len(Artifact.read(model).vocabulary), HttpClient("127.0.0.1", server.port))

    async def phase(self, name: str, clients: int, seconds: float) -> Phase:
        """Let so many clients send requests for so long; each ends with an answer."""
        phase, began = Phase(name, clients), time.perf_counter()
        phase.resident.append(self._server.resident_bytes)
        running = [asyncio.ensure_future(self._client(phase, number, began + seconds)) for number in range(clients)]
        await asyncio.sleep(seconds / 2)
        phase.resident.append(self._server.resident_bytes)
        await asyncio.gather(*running)
        phase.resident.append(self._server.resident_bytes)
        phase.seconds = time.perf_counter() - began
        return phase

    async def _client(self, phase: Phase, number: int, end: float) -> None:
        client = HttpClient("127.0.0.1", self._server.port)
        place = number * 7
        while time.perf_counter() < end:
            kind, request = self._requests[place % len(self._requests)]
            place += 1
            try:
                reply = await client.send(request)
            except (OSError, EOFError) as error:
                phase.errors[type(error).__name__] += 1
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            phase.take(kind, reply)
            if reply.status == _REFUSED:
                await asyncio.sleep(_PAUSE_SECONDS)
        await client.close()


def _draw_requests(vocabulary_size: int, client: HttpClient) -> list[tuple[str, bytes]]:
    random = np.random.default_rng(0)
    found = []
    for number in range(_BODIES):
        kind, ids = _KINDS[number % len(_KINDS)], random.integers(0, vocabulary_size, _PROMPT_TOKENS).tolist()
        if kind == "suggest":
            found.append((kind, client.request("/v1/suggest", json.dumps({"text": "the", "count": 5}).encode())))
            continue
        fields = {"prompt": ids, "max_tokens": _WRITTEN_TOKENS, "seed": number, "stream": kind == "stream"}
        found.append((kind, client.request("/v1/completions", json.dumps(fields).encode())))
    random.shuffle(found)
    return found


async def measure(model: Path, server: ServerProcess, clients: int, seconds: float, slots: int) -> list[Phase]:
    """The three phases, after a warm-up."""
    load = Load(model, server)
    await load.phase("warm-up", clients, min(seconds, _WARM_UP_SECONDS))
    return [
        await load.phase("load", clients, seconds),
        await load.phase("overload", _OVERLOAD * slots, seconds / 3),
        await load.phase("recovery", clients, seconds / 3),
    ]


def report(phases: list[Phase]) -> str:
    """The figures as a table, a line for each phase."""
    head = f"{'phase':<9} {'clients':>7} {'requests/s':>10} {'tokens/s':>8}"
    head += "".join(f" {name:>10}" for name in ("p50", "p95", "p99", "longest", "event p50", "event p99"))
    head += f" {'429':>5} {'failed':>6}  memory at start, middle, end"
    return "\n".join([head, *map(_line, phases), "event: the first of a streamed answer; 429: share that was refused"])


def _line(phase: Phase) -> str:
    found = phase.to_json()
    latency, first = (found[name] or {} for name in ("latency", "first_event"))
    times = [*(latency.get(name) for name in ("p50", "p95", "p99", "longest")), first.get("p50"), first.get("p99")]
    memory = ", ".join(f"{size / 1e6:.0f}" for size in phase.resident)
    return (
        f"{phase.name:<9} {phase.clients:>7} {found['requests_per_second']:>10,.0f} {found['tokens_per_second']:>8,.0f}"
        + "".join(f" {_milliseconds(seconds):>10}" for seconds in times)
        + f" {phase.refused:>5.0%} {phase.failures:>6}  {memory} MB"
    )


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.1f} ms"


def passed(phases: list[Phase]) -> bool:
    """Whether nothing failed, only what was too much was refused, and the server has recovered.

    Args:
        phases: Load, overload and recovery, as `measure` gives them.
    """
    load, overload, recovery = phases
    return (
        all(not phase.failures for phase in phases)
        and all(phase.statuses[200] and not phase.statuses[_REFUSED] for phase in (load, recovery))
        and overload.statuses[_REFUSED] > 0
        and recovery.resident[-1] <= _GROWTH * load.resident[-1] + _GROWTH_BYTES
    )


def _measure(chosen: argparse.Namespace) -> bool:
    """Measure, print, write; whether the gate was met."""
    if chosen.clients < 1 or chosen.slots < chosen.clients or not chosen.seconds > 0:
        raise OptionError(
            f"clients is {chosen.clients}, slots is {chosen.slots}, seconds is {chosen.seconds}, expected 1 client or "
            "more, as many slots or more, and more than 0 seconds"
        )
    with ServerProcess(chosen.model, chosen.slots, chosen.threads) as server:
        phases = asyncio.run(measure(chosen.model, server, chosen.clients, chosen.seconds, chosen.slots))
    environment = describe_environment()
    machine = f"{environment['processor']}, {environment['usable_cores']} cores shared with the clients"
    print(f"{machine}; {chosen.slots} slots\n{report(phases)}")
    if chosen.json is not None:
        value = {"format": _FORMAT, "environment": environment, "slots": chosen.slots, "threads": chosen.threads}
        value["phases"] = [phase.to_json() for phase in phases]
        write_atomically(chosen.json, json_text(value, indent=1).encode())
    return passed(phases)


def main() -> None:
    """Parse the arguments, measure, print; an error of ours becomes a message and its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lmtool.bench.load.http_server", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="artifact")
    parser.add_argument("--clients", type=int, default=50, help="clients that send one request after the other")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="length of the load; overload and recovery: a third"
    )
    parser.add_argument("--slots", type=int, default=64, help="choices that the server writes at once")
    parser.add_argument("--threads", type=int, default=1, help="threads of one call")
    parser.add_argument("--json", type=Path, help="file for the figures")
    chosen = parser.parse_args()
    try:
        met = _measure(chosen)
    except LmtoolError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if met else _GATE_NOT_MET)


if __name__ == "__main__":
    main()

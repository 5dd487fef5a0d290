"""Clients that do not read their responses are disconnected, also while the server stops."""

import asyncio
import contextlib
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lmtool.serve import responses
from lmtool.serve.responses import LargeJsonResponse
from support.processes.commands import PATIENCE_SECONDS
from support.servers import ServerProcess, request_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="open files are listed as Linux tells them")
LARGE = {"prompt": [5] * 1000, "n": 15, "echo": True, "logprobs": 5, "max_tokens": 20}
CLIENTS = 4


@pytest.fixture
def server(artifact_path: Path) -> Iterator[ServerProcess]:
    limits = ["--max-tokens", 1_000_000, "--max-answer-tokens", 1_000_000, "--max-connections", CLIENTS + 3]
    with ServerProcess(artifact_path, "--client-seconds", 1, *limits) as running:
        yield running


@pytest.fixture
def resources() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def connections(server: ServerProcess) -> int:
    count = 0
    for file in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            count += str(file.readlink()).startswith("socket:")
    return count


def start_request(server: ServerProcess, resources: contextlib.ExitStack, fields: dict[str, Any]) -> socket.socket:
    """A connection whose response has begun to arrive; it does not read on."""
    connection = resources.enter_context(socket.socket())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(request_bytes("/v1/completions", fields))
    ready, _, _ = select.select([connection], [], [], PATIENCE_SECONDS)
    assert ready
    return connection


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_client_that_does_not_read_is_disconnected(server: ServerProcess, resources: contextlib.ExitStack) -> None:
    assert httpx.get(f"{server.url}/health").status_code == 200  # the event loop has its sockets by then
    time.sleep(0.3)
    before = connections(server)
    for number in range(CLIENTS):
        start_request(server, resources, {**LARGE, "stream": number % 2 == 0})
    assert connections(server) > before
    until(lambda: connections(server) <= before, 20)
    assert httpx.post(f"{server.url}/v1/suggest", json={}).status_code == 200
    assert server.metric("lmtool_slots_in_use") == 0
    for number in range(CLIENTS):
        start_request(server, resources, {**LARGE, "stream": number % 2 == 0})
    began = time.monotonic()
    code, stderr = server.stop(signal.SIGTERM)
    assert time.monotonic() - began < 10
    assert (code, stderr) == (143, "")


def test_a_client_that_reads_slowly_gets_all_of_it(server: ServerProcess, resources: contextlib.ExitStack) -> None:
    connection = start_request(server, resources, {**LARGE, "n": 1})
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1000)
    length = int(received.lower().partition(b"content-length: ")[2].split()[0])
    began, missing = time.monotonic(), length - len(received.partition(b"\r\n\r\n")[2])
    while missing:
        part = connection.recv(min(missing, 4096))
        assert part
        missing -= len(part)
        time.sleep(0.05)
    assert time.monotonic() - began > 2  # longer than an idle connection is kept


def test_a_client_that_pipelines_a_request_may_disconnect(server: ServerProcess) -> None:
    connection = server.connect()
    endless = request_bytes("/v1/completions", {"prompt": "the", "max_tokens": 1_000_000})
    connection.sendall(endless)
    until(lambda: server.metric("lmtool_slots_in_use") == 1, PATIENCE_SECONDS)
    connection.sendall(endless)
    connection.close()
    until(lambda: server.metric("lmtool_slots_in_use") == 0, 10)  # long before the text would end


def test_a_large_body_is_sent_in_pieces_until_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "GRACE_SECONDS", 0.05)
    sent: list[Any] = []
    dropped: list[bool] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if slow and len(sent) > 2:
            await asyncio.sleep(PATIENCE_SECONDS)

    async def answer() -> None:
        response = LargeJsonResponse(b"x" * 200_000, asyncio.get_running_loop().time())
        await response({"type": "http", "state": {"abort": lambda: dropped.append(True)}}, None, send)  # type: ignore[arg-type]

    slow = False
    asyncio.run(asyncio.wait_for(answer(), PATIENCE_SECONDS))
    assert [len(message.get("body", b"")) for message in sent] == [0, 65_536, 65_536, 65_536, 3392]
    assert [message.get("more_body") for message in sent[1:]] == [True] * 3 + [False]
    assert dropped == []
    sent, slow = [], True
    asyncio.run(asyncio.wait_for(answer(), PATIENCE_SECONDS))
    assert (len(sent), dropped) == (3, [True])

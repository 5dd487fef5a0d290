"""Requests that break HTTP/1.1, or that two readers may understand differently."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from lmtool.runtime import Predictor
from lmtool.serve import ServeOptions, Service
from lmtool.serve.server import Server, _config, _loop_factory
from support.processes.commands import PATIENCE_SECONDS
from support.servers import request_bytes
from uvicorn.server import ServerState

HOST = b"host: localhost\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
JSON = b"content-type: application/json\r\n"
COMPLETE = b"POST /v1/completions HTTP/1.1\r\n" + JSON
TEXT = b'{"max_tokens": 2}'
CHUNKS = b"11\r\n" + TEXT + b"\r\n0\r\n"
HIDDEN = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET /health HTTP/1.1\r\nconnection: close\r\n" + HOST + b"\r\n"
HEADER_BYTES = 2000


@pytest.fixture(scope="module")
def port(predictor: Predictor) -> Iterator[int]:
    """The port of a server in another thread of this process."""
    limits = ServeOptions(client_seconds=1, max_header_bytes=HEADER_BYTES, max_tokens=9999, max_answer_tokens=9999)
    service = Service(predictor, limits)
    server = Server(_config(service))

    def serve() -> None:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(server.serve(sockets=[listener]))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
    service.close()


def answers(port: int, *parts: bytes) -> tuple[list[int], bytes]:
    """The statuses, and all bytes until the server closes the connection."""
    received = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection,
        contextlib.suppress(ConnectionError),
    ):
        for number, part in enumerate(parts):
            time.sleep(0.05 if number else 0)
            connection.sendall(part)
        while part := connection.recv(65536):
            received += part
    return [int(rest.split()[0]) for rest in received.split(b"HTTP/1.1 ")[1:]], received


def with_length(*headers: bytes, body: bytes) -> bytes:
    return COMPLETE + HOST + b"".join(headers) + b"content-length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(with_length(body=TEXT), [200, 200], id="a good request"),
        pytest.param(with_length(body=TEXT) + b"GET / HTTP/1.1\r\n\r\n", [200, 400], id="a bad one follows"),
        pytest.param(with_length(b"connection: upgrade\r\nupgrade: h2c\r\n", body=HIDDEN), [400, 200], id="upgrade"),
        pytest.param(b"GET /health HTTP/1.1\r\n\r\n", [400], id="no host"),
        pytest.param(b"GET /health HTTP/1.1\r\n" + HOST + HOST + b"\r\n", [400], id="two hosts"),
        pytest.param(with_length(CHUNKED, body=CHUNKS + b"\r\n" + HIDDEN), [200], id="a length and chunks"),
        pytest.param(with_length(b"content-length: 3\r\n", body=TEXT), [400], id="two lengths"),
        pytest.param(COMPLETE + HOST + CHUNKED * 2 + b"\r\n" + CHUNKS + b"\r\n", [400], id="chunked twice"),
        pytest.param(b"GET /health HTTP/1.1\r\n" + HOST + b"x : y\r\n\r\n", [400], id="a space in a name"),
    ],
)
def test_a_request_has_one_answer(port: int, data: bytes, expected: list[int]) -> None:
    statuses, received = answers(port, data + LAST)
    assert statuses == expected, received


@pytest.mark.parametrize("fields", [{}, {"stream": True}], ids=["whole", "events"])
def test_head_body_and_end_are_one_write(predictor: Predictor, fields: dict[str, Any]) -> None:
    async def main() -> list[bytes]:
        config = _config(service)
        config.load()
        transport = Mock(spec=asyncio.Transport)
        transport.is_closing.return_value = False
        transport.get_extra_info.return_value = None
        state = ServerState()
        protocol = config.http_protocol_class(config=config, server_state=state, app_state={})  # type: ignore[call-arg]
        protocol.connection_made(transport)
        assert isinstance(protocol, asyncio.Protocol)
        protocol.data_received(request_bytes("/v1/completions", {"prompt": "the", "max_tokens": 1, **fields}))
        await asyncio.wait(state.tasks)
        return [call.args[0] for call in transport.write.call_args_list]

    service = Service(predictor, ServeOptions())
    try:
        (written,) = asyncio.run(asyncio.wait_for(main(), PATIENCE_SECONDS))
    finally:
        service.close()
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert written.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n" if fields else b"}")


def test_a_body_that_waits_is_asked_for_before_the_answer(port: int) -> None:
    head, end, body = with_length(b"expect: 100-continue\r\n", body=TEXT).partition(b"\r\n\r\n")
    assert answers(port, head + end, body + LAST)[0] == [100, 200, 200]


def test_trailers_are_no_headers(port: int) -> None:
    request = b"POST /v1/completions HTTP/1.1\r\n" + HOST + CHUNKED + b"%b\r\n" + CHUNKS + b"%b\r\n" + LAST
    assert answers(port, request % (JSON, b""))[0] == [200, 200]
    assert answers(port, request % (b"", JSON))[0] == [415, 200]


def test_headers_that_come_while_a_response_runs_have_their_limit(port: int) -> None:
    running = request_bytes("/v1/completions", {"prompt": "the", "max_tokens": 1000, "stream": True})
    long = b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * (HEADER_BYTES + 100)
    statuses, received = answers(port, running, long)
    assert statuses == [200, 400], received[-300:]
    first, end, _ = received.partition(b"\r\n0\r\n\r\nHTTP/1.1 400 ")
    assert end, "the refusal is inside the response"
    assert b"data: [DONE]" in first[-40:]


def test_a_body_that_breaks_after_its_answer_ends_the_connection(port: int, caplog: pytest.LogCaptureFixture) -> None:
    refused = COMPLETE.replace(b"completions", b"nothing") + HOST + CHUNKED + b"\r\n"
    statuses, _ = answers(port, refused, b"zz\r\n")
    assert statuses == [404]
    assert answers(port, LAST)[0] == [200]
    assert not caplog.records

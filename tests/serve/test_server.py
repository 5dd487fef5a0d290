"""`lmtool serve` as a process: OpenAI's client, sockets, signals, and errors at the start."""

import contextlib
import gc
import http.client
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import openai
import pytest
from lmtool.model import Run
from lmtool.runtime import Predictor
from lmtool.serve import ServeOptions, read_key
from lmtool.serve.server import Server, _rare_garbage_collection, run_server
from support.processes.commands import PATIENCE_SECONDS, lmtool, run_fresh
from support.servers import ServerProcess, request_bytes

ENDLESS = {"prompt": "the", "max_tokens": 1_000_000}
ENDLESS_LIMITS = ["--max-tokens", 1_000_000, "--max-answer-tokens", 3_000_000]
SECONDS = ["--client-seconds", 1, "--keep-alive-seconds", 4, "--body-seconds", 0.5]
LIMITS = [*ENDLESS_LIMITS, "--max-choices", 3, *SECONDS]


@pytest.fixture(scope="module")
def server(artifact_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(artifact_path, *LIMITS, "--max-header-bytes", 2000, "--max-connections", 20) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    options = {"api_key": "none", "max_retries": 0, "timeout": PATIENCE_SECONDS}
    with openai.OpenAI(base_url=f"{server.url}/v1", **options) as instance:
        yield instance


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_openais_client_reads_completions(client: openai.OpenAI, predictor: Predictor) -> None:
    stream = predictor.stream()
    stream.feed("the old")
    expected = "".join(stream.generate(max_tokens=12, seed=4, temperature=0.7))
    options = {"model": "model", "prompt": "the old", "max_tokens": 12, "seed": 4, "temperature": 0.7}
    answer = client.completions.create(**options, logprobs=2, echo=True)
    assert answer.choices[0].text == f"the old{expected}"
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.token_logprobs == pytest.approx(
        predictor.score(f"the old{expected}").token_log_probs, abs=1e-6
    )
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 12)
    chunks = list(client.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == expected
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 14
    several = client.completions.create(model="model", prompt=["the", "a"], n=1, stop=["\n"], max_tokens=30, seed=1)
    assert [choice.index for choice in several.choices] == [0, 1]
    assert "\n" not in "".join(choice.text for choice in several.choices)


def test_the_documented_client_gets_what_a_stream_writes(server: ServerProcess, predictor: Predictor) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "serve.md").read_text()
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "openai" in block]
    assert "http://127.0.0.1:8000" in block
    command = [sys.executable, "-W", "error", "-c", block.replace("http://127.0.0.1:8000", server.url)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    stream = predictor.stream()
    stream.feed("if the file is")
    assert done.stdout == "".join(stream.generate(max_tokens=12, temperature=0.6, seed=2))


def test_openais_client_lists_models_and_reads_errors(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["model"]
    assert client.models.retrieve("model").owned_by == "lmtool"
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'"):
        client.completions.create(model="gpt", prompt="the")
    with pytest.raises(
        openai.BadRequestError, match="frequency_penalty is 1, which this server does not support"
    ) as refused:
        client.completions.create(model="model", prompt="the", frequency_penalty=1)
    assert (refused.value.param, refused.value.code) == ("frequency_penalty", "invalid_value")
    with pytest.raises(openai.RateLimitError, match="3 of 3 choices are being written and 1 more") as busy:
        occupied = client.completions.create(model="model", prompt="the", max_tokens=1_000_000, n=3, stream=True)
        with occupied:
            next(iter(occupied))
            client.completions.create(model="model", prompt="the")
    assert busy.value.response.headers["retry-after"] == "1"


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_disconnects_frees_its_slot(server: ServerProcess, streamed: bool) -> None:
    until(lambda: server.metric("lmtool_slots_in_use") == 0)
    connections = [server.connect() for _ in range(3)]
    for connection in connections:
        connection.sendall(request_bytes("/v1/completions", {**ENDLESS, "stream": streamed}))
    until(lambda: server.metric("lmtool_slots_in_use") == 3)
    assert httpx.post(f"{server.url}/v1/suggest", json={}).status_code == 429
    if streamed:
        assert b"200 OK" in connections[0].recv(4096)
    generated = server.metric("lmtool_tokens_read_total")
    time.sleep(0.1)
    assert server.metric("lmtool_tokens_read_total") > generated  # they are at work, and would be for hours
    for connection in connections:
        connection.close()
    closed = time.monotonic()
    until(lambda: server.metric("lmtool_slots_in_use") == 0)
    assert time.monotonic() - closed < 5
    until(lambda: server.metric("lmtool_pool_streams") == 0)
    assert httpx.post(f"{server.url}/v1/suggest", json={}).status_code == 200


def answer_to(connection: socket.socket, data: bytes) -> bytes:
    """All bytes until the server closes the connection."""
    connection.sendall(data)
    received = b""
    while True:
        ready, _, _ = select.select([connection], [], [], PATIENCE_SECONDS)
        assert ready, f"the server neither answers nor closes: {received!r}"
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            return received
        if not part:
            return received
        received += part


def test_connections_that_send_nothing_useful_are_closed(server: ServerProcess) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    sent = {
        b"": b"",
        b"GET /hea": b"",
        head: b"",
        b"rubbish\r\n\r\n": b"400 Bad Request",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 5000: b"400 Bad Request",
        head + b"content-length: 10\r\n\r\n{": b"408 Request Timeout",
    }
    began = time.monotonic()
    connections = [server.connect() for _ in sent]
    for connection, data in zip(connections, sent, strict=True):
        connection.sendall(data)
    for connection, (data, expected) in zip(connections, sent.items(), strict=True):
        with connection:
            received = answer_to(connection, b"")
            assert expected in received, data
            assert bool(expected) == bool(received), data
    assert time.monotonic() - began < 10
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_connections_beyond_the_limit_get_503(server: ServerProcess) -> None:
    idle = [server.connect() for _ in range(19)]
    assert httpx.get(f"{server.url}/v1/models").status_code == 503
    for connection in idle:
        connection.close()
    until(lambda: httpx.get(f"{server.url}/v1/models").status_code == 200)


def suggested(connection: http.client.HTTPConnection) -> bool:
    connection.request("POST", "/v1/suggest", b"{}", {"content-type": "application/json"})
    return connection.getresponse().read().startswith(b'{"object":"suggestions"')


def test_an_idle_connection_outlives_slow_clients_and_proxies(server: ServerProcess) -> None:
    assert ServeOptions().keep_alive_seconds > 60 > ServeOptions().client_seconds  # nginx and AWS keep them for 60 s
    slow = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    with server.connect() as idle, contextlib.closing(slow):
        idle.sendall(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
        until(lambda: b"data" in idle.recv(4096))
        answered = time.monotonic()
        assert suggested(slow)
        first = slow.sock
        time.sleep(1.2)
        assert suggested(slow)
        assert slow.sock is first
        began = time.monotonic()
        assert answer_to(slow.sock, b"POST /v1/sugg") == b""
        assert 0.5 < time.monotonic() - began < 3.5  # a request that does not go on has client_seconds
        assert answer_to(idle, b"") == b""
        assert 3.5 < time.monotonic() - answered < 10


def test_an_idle_connection_gives_way_to_a_new_one(artifact_path: Path) -> None:
    limits = ["--max-connections", 3, "--client-seconds", 1, "--keep-alive-seconds", 600]
    with ServerProcess(artifact_path, *limits) as running, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(httpx.Client(base_url=running.url)) for _ in range(2)]
        assert [client.get("/health").status_code for client in idle] == [200, 200]
        assert httpx.get(f"{running.url}/health").status_code == 503  # they may still be in use
        time.sleep(1.2)
        assert [httpx.get(f"{running.url}/health").status_code for _ in range(3)] == [200, 200, 200]
        assert idle[1].get("/health").status_code == 200


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_lets_running_requests_finish(artifact_path: Path, number: int, code: int) -> None:
    with ServerProcess(artifact_path, "--max-tokens", 100_000) as running:
        for data in (b"rubbish\r\n\r\n", request_bytes("/v1/completions", [[[]]]), request_bytes("/none", {})):
            with running.connect() as connection:
                connection.sendall(data)
                assert b" 40" in connection.recv(65536)
        responses: list[httpx.Response] = []
        fields = {"prompt": "the", "max_tokens": 1500, "seed": 1}
        asking = threading.Thread(
            target=lambda: responses.append(httpx.post(f"{running.url}/v1/completions", json=fields, timeout=60))
        )
        asking.start()
        until(lambda: running.metric("lmtool_slots_in_use") == 1)
        running.process.send_signal(number)
        asking.join(PATIENCE_SECONDS)
        ended, stderr = running.stop(0)
        assert responses[0].json()["usage"]["completion_tokens"] == 1500
    assert (ended, stderr) == (code, "")


def test_a_server_under_nohup_survives_its_terminal(artifact_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited by the process
    try:
        started = ServerProcess(artifact_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    with started as running:
        running.process.send_signal(signal.SIGHUP)
        assert running.metric("lmtool_slots_in_use") == 0
        assert running.stop(signal.SIGTERM) == (143, "")


def test_requests_that_do_not_finish_are_cut_off(artifact_path: Path) -> None:
    with (
        ServerProcess(artifact_path, *ENDLESS_LIMITS, "--shutdown-seconds", 1) as running,
        running.connect() as streamed,
        running.connect() as whole,
    ):
        streamed.sendall(request_bytes("/v1/completions", {**ENDLESS, "stream": True}))
        whole.sendall(request_bytes("/v1/completions", ENDLESS))
        until(lambda: running.metric("lmtool_slots_in_use") == 2)
        running.process.send_signal(signal.SIGTERM)
        assert b'"code":"stopping"' in answer_to(streamed, b"")
        assert b"503 Service Unavailable" in answer_to(whole, b"")
        code, stderr = running.stop(0)
    assert code == 143
    assert "Traceback" not in stderr


def test_errors_at_the_start_have_messages(
    artifact_path: Path, dynamic_int8_path: Path, tmp_path: Path, server: ServerProcess
) -> None:
    key = tmp_path / "key"
    key.write_text("two words\n")
    for arguments, code, message in (
        (["--port", server.port], 1, f"cannot listen on 127.0.0.1, port {server.port}: Address already in use"),
        (["--host", "nowhere.invalid"], 1, "cannot listen on nowhere.invalid, port 8000: "),
        (["--host", "\u202eabc"], 1, "port 8000: encoding of hostname failed; choose another --port"),
        (["--port", "-1"], 2, "port is -1, expected 0"),
        (["--never", "two words"], 2, "'two words' is not a word"),
        (["--never-file", tmp_path / "none"], 1, "cannot read"),
        (["--max-choices", "0"], 2, "max_choices is 0, expected 1 or more"),
        (["--provider", "none"], 2, "provider 'none' is not known"),
        (["--api-key-file", tmp_path / "none"], 1, "cannot read"),
        (["--api-key-file", key], 1, "holds no key that can be sent"),
        (["--model", dynamic_int8_path], 1, "int8 artifact is not batch-invariant.*export again.*--allow-inexact"),
    ):
        finished = lmtool("serve", "--model", artifact_path, *arguments)
        assert finished.returncode == code, finished.stderr
        assert re.search(message, finished.stderr.replace("\n", " ")), finished.stderr
        assert finished.stdout == ""
        assert "Traceback" not in finished.stderr
    finished = run_fresh("serve", "--model", artifact_path, without="uvicorn")
    assert finished.returncode == 1
    assert "this command needs uvicorn; pip install 'lmtool[serve]'" in finished.stderr


def test_words_of_a_file_are_neither_written_nor_suggested(artifact_path: Path, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text("the\nA dog\n")
    with ServerProcess(artifact_path, "--never", "cat", "--never-file", words) as running:
        answer = httpx.post(f"{running.url}/v1/completions", json={"prompt": "one", "max_tokens": 200, "seed": 1})
    written = set(answer.json()["choices"][0]["text"].split())
    assert len(written) > 5
    assert not written & {"the", "a", "dog", "cat"}


def test_an_open_server_without_a_key_warns(run: Run) -> None:
    arguments = ["--host", "0.0.0.0", "--allow-inexact", "--name", "tiny"]
    with ServerProcess(run.artifact("int8"), *arguments) as running:
        answer = httpx.post(f"http://127.0.0.1:{running.port}/v1/completions", json={"prompt": "the"})
        assert answer.json()["model"] == "tiny"
        code, stderr = running.stop()
    assert (code, stderr.count("\n")) == (143, 1)
    assert "warning: 0.0.0.0 is not loopback and there is no key" in stderr


def test_an_open_server_with_a_key_does_not_warn(
    artifact_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    key.write_text("open-sesame\n")
    assert read_key(key) == "open-sesame"
    monkeypatch.setenv("LMTOOL_API_KEY", "open-sesame")
    with ServerProcess(artifact_path, "--host", "0.0.0.0") as running:
        url = f"http://127.0.0.1:{running.port}"
        assert httpx.get(f"{url}/v1/models").status_code == 401
        with openai.OpenAI(base_url=f"{url}/v1", api_key="open-sesame") as client:
            assert [model.id for model in client.models.list()] == ["model"]
        assert running.stop() == (143, "")


def test_garbage_is_collected_as_before_once_the_server_ends() -> None:
    before = gc.get_threshold()
    with _rare_garbage_collection():
        assert gc.get_threshold()[0] == 10 * before[0]
        assert gc.get_freeze_count() > 0
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


@pytest.mark.parametrize(("before", "during"), [(0.005, 0.001), (0.0001, 0.0001)])
def test_threads_take_short_turns_while_the_server_runs(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, before: float, during: float
) -> None:
    intervals = []

    async def serve(self: Server, sockets: list[socket.socket]) -> None:
        intervals.append(sys.getswitchinterval())

    monkeypatch.setattr(Server, "serve", serve)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(before)
    try:
        run_server(predictor, ServeOptions(port=0), lambda _: None)
        assert [*intervals, sys.getswitchinterval()] == pytest.approx([during, before], rel=0.05)
    finally:
        sys.setswitchinterval(usual)

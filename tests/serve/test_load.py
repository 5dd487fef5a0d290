"""Limits, time-outs, disconnects and failures: each releases everything that the request held."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from lmtool.runtime import Predictor
from lmtool.serve import endpoints
from lmtool.serve.completions import prompt as prompt_module
from lmtool.serve.responses import Events, EventStream
from support.pools import PATIENCE_SECONDS, Gate
from support.servers import LocalServer, local_server

JSON = {"content-type": "application/json"}


@pytest.fixture
def gated(own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LocalServer, Gate]]:
    """A server of few slots whose calls of the model wait at a gate."""
    with local_server(
        own_predictor, max_choices=4, allow_inexact=True, request_seconds=0.5, body_seconds=0.2
    ) as server:
        gate = Gate(own_predictor, monkeypatch)
        yield server, gate
        gate.open()


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def post(client: httpx.AsyncClient, **fields: Any) -> "asyncio.Task[httpx.Response]":
    return asyncio.ensure_future(client.post("/v1/completions", json={"prompt": "the", **fields}))


def test_choices_beyond_the_slots_are_refused_at_once_and_accepted_later(gated: tuple[LocalServer, Gate]) -> None:
    server, gate = gated
    engine = server.service.engine

    async def work(client: httpx.AsyncClient) -> None:
        running = [post(client, n=3, max_tokens=2), post(client, max_tokens=2)]
        await until(lambda: engine.slots.taken == 4)
        for fields in ({}, {"n": 2}, {"stream": True}):
            refused = await post(client, **fields)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["type"] == "rate_limit_error"
            assert "4 of 4 choices are being written" in refused.json()["error"]["message"]
        assert (await client.post("/v1/suggest", json={})).status_code == 429
        gate.open()
        assert [(await answer).status_code for answer in running] == [200, 200]
        assert (await post(client, n=4)).status_code == 200

    server.run(work)
    assert engine.slots.taken == 0
    assert "lmtool_refused_total 4.0" in server.request("GET", "/metrics").text


def test_a_slow_request_times_out(gated: tuple[LocalServer, Gate]) -> None:
    server, gate = gated

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        answers = [post(client), post(client, stream=True), asyncio.ensure_future(client.post("/v1/suggest", json={}))]
        return list(await asyncio.gather(*answers))

    for answer in server.run(work):
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    assert server.service.slots.taken == 0
    gate.open()
    assert server.complete(prompt="the", max_tokens=2)["usage"]["completion_tokens"] == 2


def test_a_slow_stream_ends_with_an_error(gated: tuple[LocalServer, Gate]) -> None:
    server, gate = gated
    gate.let_pass(4)  # the prompt, and three of the tokens; the fourth is sent too
    *chunks, last = server.chunks(prompt="the", max_tokens=30, logprobs=0)
    tokens = [token for chunk in chunks for token in chunk["choices"][0]["logprobs"]["tokens"]]
    assert len(tokens) == 4
    assert (last["error"]["code"], last["error"]["type"]) == ("timeout", "server_error")
    assert server.service.slots.taken == 0


def test_a_slow_body_times_out(gated: tuple[LocalServer, Gate]) -> None:
    server, _ = gated

    async def slow() -> AsyncIterator[bytes]:
        yield b'{"prompt": "the'
        await asyncio.sleep(5)
        yield b'"}'

    answer = server.run(lambda client: client.post("/v1/completions", content=slow(), headers=JSON))
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "body_timeout")


def test_the_stream_of_a_client_that_does_not_read_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmtool.serve.responses.GRACE_SECONDS", 0.05)
    closed, sent = [], []

    async def events() -> AsyncIterator[Events]:
        try:
            while True:
                yield Events(b"data: 1\n\n")
        finally:
            closed.append(True)

    async def receive() -> Any:
        await asyncio.sleep(PATIENCE_SECONDS)

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) > 3:
            await asyncio.sleep(PATIENCE_SECONDS)

    async def main() -> None:
        response = EventStream(events(), asyncio.get_running_loop().time() + 0.05)
        await response({"type": "http"}, receive, send)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_SECONDS))
    assert closed == [True]
    assert len(sent) == 4


def test_slow_suggestions_run_in_another_thread(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: dict[str, threading.Thread] = {}

    def note_thread(module: Any, name: str) -> None:
        real = getattr(module, name)

        def call(*args: Any, **options: Any) -> Any:
            threads[name] = threading.current_thread()
            return real(*args, **options)

        monkeypatch.setattr(module, name, call)

    note_thread(prompt_module, "split_prompt")
    note_thread(endpoints, "suggest_tokens")
    with local_server(predictor) as server:
        short = server.post("/v1/suggest", text="the")
        assert set(threads.values()) == {threading.main_thread()}
        monkeypatch.setattr(endpoints, "_LARGE_VOCABULARY", 1)
        assert server.post("/v1/suggest", text="the" + " " * 5000) == short
        assert threading.main_thread() not in threads.values()
        assert server.refused("/v1/suggest", text="the " * 9000)[0] == 400


def test_a_failing_model_gives_503_and_the_server_goes_on(
    own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with local_server(own_predictor) as server:
        step = own_predictor.network.run

        def fails(token_ids: Any, *args: Any, **options: Any) -> Any:
            if fails.on:  # type: ignore[attr-defined]
                raise RuntimeError("planted")
            return step(token_ids, *args, **options)

        monkeypatch.setattr(own_predictor.network, "run", fails)
        fails.on = True  # type: ignore[attr-defined]
        status, error = server.refused("/v1/completions", prompt=["the", "a", "one"], n=2)
        assert (status, error["type"]) == (503, "server_error")
        assert server.request("GET", "/health").status_code == 503
        fails.on = False  # type: ignore[attr-defined]
        assert server.request("GET", "/health").status_code == 200
        assert len(server.complete(prompt=["the", "a", "one"], n=2, max_tokens=2)["choices"]) == 6
        assert server.service.engine.pool.stats.open_streams == 0


def test_an_internal_error_hides_its_text(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    with local_server(predictor) as server:
        monkeypatch.setattr(server.service.engine, "write", None)
        status, error = server.refused("/v1/completions", prompt="the")
        assert (status, error["message"]) == (500, "the server failed; its log says more")
        assert server.service.slots.taken == 0


def test_many_prompts_at_once_are_each_what_they_are_alone(predictor: Predictor) -> None:
    prompts = [f"{word} {'the cat saw ' * number}" for number, word in enumerate(["the", "a", "one", "every"] * 8)]
    with local_server(predictor) as server:

        async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
            fields = {"echo": True, "logprobs": 1, "max_tokens": 6, "seed": 1}
            return list(await asyncio.gather(*(post(client, prompt=prompt, **fields) for prompt in prompts)))

        answers = [answer.json()["choices"][0] for answer in server.run(work)]
        assert server.service.engine.pool.stats.calls < server.service.engine.pool.stats.requests
    for prompt, choice in zip(prompts, answers, strict=True):
        stream = predictor.stream()
        stream.feed(prompt)
        assert choice["text"] == prompt + "".join(stream.generate(max_tokens=6, seed=1))
        expected = predictor.score(choice["text"]).token_log_probs
        assert choice["logprobs"]["token_logprobs"] == pytest.approx(expected, abs=1e-6)

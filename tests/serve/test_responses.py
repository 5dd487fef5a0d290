"""Size limits of responses, and what is held while their JSON is encoded."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from lmtool.runtime import Predictor
from lmtool.serve import responses
from lmtool.serve.completions import endpoint
from lmtool.serve.responses import json_text
from support.servers import LocalServer, local_server


@pytest.fixture
def server(predictor: Predictor) -> Iterator[LocalServer]:
    with local_server(predictor, max_answer_tokens=400, max_choices=64) as instance:
        yield instance


LARGEST: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"prompt": "the", "n": 4, "max_tokens": 100}, {"max_tokens": 101}),
    ({"prompt": ["the", "a"], "n": 2, "max_tokens": 100}, {"prompt": ["the", "a", "one"]}),
    ({"prompt": "the " * 90, "n": 4, "max_tokens": 10, "echo": True}, {"prompt": "the " * 91}),
    ({"prompt": [5] * 90, "n": 4, "max_tokens": 10, "echo": True, "logprobs": 5}, {"max_tokens": 11}),
    ({"prompt": "x" * 3200, "n": 2, "max_tokens": 0, "echo": True}, {"prompt": "x" * 3216}),
    ({"prompt": [" " * 3200, " " * 3200], "max_tokens": 0, "echo": True}, {"n": 2}),
]


@pytest.mark.parametrize(("largest", "more"), LARGEST, ids=lambda fields: ",".join(fields))
@pytest.mark.parametrize("stream", [False, True])
def test_a_response_that_may_be_too_long_is_refused_before_it_takes_a_slot(
    server: LocalServer, largest: dict[str, Any], more: dict[str, Any], stream: bool
) -> None:
    assert server.request("POST", "/v1/completions", json={**largest, "stream": stream}).status_code == 200
    engine = server.service.engine
    with engine.slots.take(engine.slots.count):
        status, error = server.refused("/v1/completions", **{**largest, **more, "stream": stream})
    assert (status, error["param"]) == (400, "max_tokens")
    assert "expected 400 or fewer; ask for fewer tokens or choices, or in several requests" in error["message"]
    assert (engine.slots.refused, engine.slots.taken) == (0, 0)


def test_only_echoed_prompts_count(server: LocalServer) -> None:
    assert server.complete(prompt="the " * 401, max_tokens=1)["usage"]["prompt_tokens"] == 401


LONG = {"prompt": "the " * 300, "echo": True, "max_tokens": 1, "seed": 1}


@pytest.mark.parametrize("stream", [False, True])
def test_slots_and_the_session_are_held_until_the_response_is_encoded(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    engine, session = server.service.engine, server.post("/v1/sessions")["id"]
    held: list[tuple[int, int]] = []

    def encode_and_note(*arguments: Any) -> Any:
        held.append((engine.slots.taken, server.service.sessions.get(session).state.tokens))
        return real(*arguments)

    name = "event" if stream else "json_text"
    real = getattr(endpoint, name)
    monkeypatch.setattr(endpoint, name, encode_and_note)
    assert (
        server.request("POST", "/v1/completions", json={**LONG, "session": session, "stream": stream}).status_code
        == 200
    )
    assert held == [(1, 0)] * (2 if stream else 1)
    assert engine.slots.taken == 0
    assert server.service.sessions.get(session).state.tokens == 301


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_that_is_not_encoded_in_time_times_out(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(endpoint, "event" if stream else "json_text", lambda _: time.sleep(1.5))
    with local_server(predictor, request_seconds=0.5) as server:
        session = server.post("/v1/sessions")["id"]
        began = time.monotonic()
        status, error = server.refused("/v1/completions", **LONG, session=session, stream=stream)
        assert (status, error["code"]) == (504, "timeout")
        assert server.service.slots.taken == 0
        assert server.request("GET", f"/v1/sessions/{session}").json()["tokens"] == 0
        assert time.monotonic() - began < 30


def test_the_event_loop_runs_while_the_largest_response_is_encoded(predictor: Predictor) -> None:
    fields = {"prompt": [[5] * 1000] * 8, "n": 2, "echo": True, "logprobs": 5, "max_tokens": 1}
    with local_server(predictor, max_answer_tokens=8 * 2 * 1001) as server:

        async def work(client: httpx.AsyncClient) -> tuple[httpx.Response, float]:
            asking = asyncio.ensure_future(client.post("/v1/completions", json=fields))
            longest = 0.0
            while not asking.done():
                began = time.perf_counter()
                await asyncio.sleep(0.001)
                longest = max(longest, time.perf_counter() - began)
            return await asking, longest

        answer, longest = server.run(work)
    assert len(answer.json()["choices"]) == 16
    assert len(answer.content) < 5_000_000
    assert longest < 2.0


VALUES = [
    None,
    [],
    {},
    [[]],
    [1, "ä\ud800", None, True],
    {"a": {}, "b": [], "c": {"d": [{}]}},
    [{"x": number, "y": [number]} for number in range(3)],
    {"choices": [{"logprobs": {"tokens": ["\n"] * 1000, "top": [{" a": -0.5}] * 999 + [None]}, "text": "x"}] * 2},
    list(range(256)),
    list(range(257)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(value)[:30])
def test_json_encoded_in_parts_equals_the_whole(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = json.dumps(value, separators=(",", ":"))
    lengths: list[int] = []

    def encode_and_note(part: Any) -> str:
        text: str = real(part)
        lengths.append(len(text))
        return text

    real = responses.compact_json
    monkeypatch.setattr(responses, "compact_json", encode_and_note)
    assert json_text(value) == expected
    assert max(lengths, default=0) < 6000
    with pytest.raises(ValueError, match="JSON compliant"):
        json_text([value, float("nan")])

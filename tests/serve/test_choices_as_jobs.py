"""Choices as generation jobs of the pool: extreme options, stop strings over events, clients that leave in a prompt."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from lmtool.runtime import PoolError, Predictor
from lmtool.serve.completions import completion
from lmtool.serve.completions.choice import Choice, Delta
from lmtool.serve.completions.stop_buffer import Token
from support.pools import Gate
from support.processes.commands import PATIENCE_SECONDS
from support.servers import LocalServer, local_server


@pytest.fixture(scope="module")
def server(predictor: Predictor) -> Iterator[LocalServer]:
    with local_server(predictor) as instance:
        yield instance


def text(server: LocalServer, **fields: Any) -> str:
    return str(server.complete(**{"prompt": "the", "max_tokens": 12, "seed": 3, **fields})["choices"][0]["text"])


def test_extreme_options_have_their_limits_texts(server: LocalServer, predictor: Predictor) -> None:
    best = text(server, temperature=0)
    for options in ({"temperature": 1e-30}, {"top_p": 1e-12}, {"top_k": 1, "temperature": 2}):
        assert text(server, **options) == best
    stream = predictor.stream()
    stream.feed("the")
    assert text(server, top_k=10**9) == "".join(stream.generate(12, top_k=10**9, seed=3))
    size = len(predictor.vocabulary)
    only = predictor.vocabulary.id("cat")
    bias = {str(token): -100 for token in range(size) if token != only}
    assert text(server, logit_bias=bias, max_tokens=3) == " cat cat cat"


def test_stop_strings_are_found_over_events_and_nothing_is_drawn_past_them(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "EVENT_SECONDS", 0.0)  # an event for each token, as far as the loop keeps up
    whole = text(server, max_tokens=200)
    middle = whole.index(" ", 40)
    stop = whole[middle - 2 : middle + 3]
    fields = {"prompt": "the", "max_tokens": 200, "seed": 3, "stop": [stop]}
    expected = whole[: whole.index(stop)]
    *chunks, usage, done = server.chunks(**fields, stream_options={"include_usage": True})
    choices = [chunk["choices"][0] for chunk in chunks]
    assert ("".join(choice["text"] for choice in choices), done) == (expected, "[DONE]")
    assert choices[-1]["finish_reason"] == "stop"
    assert server.complete(**fields)["usage"] == usage["usage"]
    drawn = usage["usage"]["completion_tokens"]
    assert stop in text(server, max_tokens=drawn)
    assert stop not in text(server, max_tokens=drawn - 1)


def test_events_have_more_tokens_the_more_choices_are_written(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "EVENT_SECONDS", 0.0)
    monkeypatch.setattr(completion, "EVENT_SECONDS_PER_CHOICE", 0.0)
    assert len(server.chunks(prompt="the", max_tokens=1000, seed=3)) > 3
    monkeypatch.setattr(completion, "EVENT_SECONDS_PER_CHOICE", PATIENCE_SECONDS)
    first, last, done = server.chunks(prompt="the", max_tokens=1000, seed=3)
    assert all(chunk["choices"][0]["text"] for chunk in (first, last))
    assert done == "[DONE]"


def test_texts_without_a_seed_differ(server: LocalServer) -> None:
    assert len({text(server, seed=None, n=2, max_tokens=30) for _ in range(3)}) == 3


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("early", [False, True])
def test_the_error_of_a_choice_ends_the_others(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, early: bool, stream: bool
) -> None:
    real, start, started = Choice._next_token, completion.Completion.start, []

    async def start_and_fail(work: completion.Completion) -> list[Delta]:
        """If `early`, the second choice has failed before anything is waited for."""
        deltas = await start(work)
        started.append(work)
        while early and not work._choices[1].generation.has_ended:
            await asyncio.sleep(0.001)
        return deltas

    def fail(choice: Choice, *drawn: Any) -> Token:
        if choice.index == 1 and choice.generation.tokens[2:]:
            raise PoolError("the second choice fails")
        return real(choice, *drawn)

    monkeypatch.setattr(Choice, "_next_token", fail)
    monkeypatch.setattr(completion.Completion, "start", start_and_fail)
    endless = {"prompt": ["the", "a"], "max_tokens": 10**6, "logprobs": 0, "stream": stream}
    with local_server(predictor, max_tokens=10**6, max_answer_tokens=10**7, request_seconds=5) as server:
        answer = server.request("POST", "/v1/completions", json=endless)
        assert '"pool_failed"' in answer.text  # and not, after five seconds, a timeout
        assert started[0].completion_tokens < 10**6
        assert server.service.slots.taken == 0


def test_a_client_that_leaves_in_the_middle_of_a_prompt_frees_everything(
    own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with local_server(own_predictor, max_choices=2) as server:
        gate = Gate(own_predictor, monkeypatch)
        pool = server.service.engine.pool

        async def work(client: httpx.AsyncClient) -> None:
            for stream in (False, True):
                fields = {"prompt": [5] * 1000, "stream": stream}
                asking = asyncio.ensure_future(client.post("/v1/completions", json=fields))
                await asyncio.to_thread(gate.wait_for_a_call)
                gate.let_pass()
                await asyncio.to_thread(gate.wait_for_a_call)
                assert (pool.stats.jobs, server.service.slots.taken) == (1, 1)
                asking.cancel()
                await asyncio.wait((asking,))
                assert server.service.slots.taken == 0
                gate.let_pass()
                while pool.stats.open_streams:
                    await asyncio.sleep(0.001)
            assert [length for _, length in gate.sizes] == [64] * 4

        server.run(work)
        gate.open()
        assert server.complete(prompt="the", max_tokens=2)["usage"]["completion_tokens"] == 2

"""Sessions: a text continues as if uninterrupted, and a failed request leaves it unchanged."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from lmtool.runtime import Predictor, State
from lmtool.serve.errors import ApiError
from lmtool.serve.options import ServeOptions
from lmtool.serve.sessions import Sessions, SessionState
from support.servers import LocalServer, local_server


@pytest.fixture(scope="module")
def server(predictor: Predictor) -> Iterator[LocalServer]:
    with local_server(predictor, max_sessions=20) as instance:
        yield instance


@pytest.fixture
def session(server: LocalServer) -> Iterator[str]:
    session_id: str = server.post("/v1/sessions")["id"]
    yield session_id
    server.request("DELETE", f"/v1/sessions/{session_id}")


def text_of(server: LocalServer, **fields: Any) -> str:
    (choice,) = server.complete(**fields)["choices"]
    return str(choice["text"])


def test_a_text_continues_where_it_ended(server: LocalServer, session: str, predictor: Predictor) -> None:
    stream = predictor.stream()
    for prompt in ("the old", " market", ""):
        stream.feed(prompt)
        expected = "".join(stream.generate(max_tokens=5, seed=2))
        assert text_of(server, prompt=prompt, max_tokens=5, seed=2, session=session) == expected
    shown = server.request("GET", f"/v1/sessions/{session}").json()
    assert shown["tokens"] == 2 + 1 + 15
    assert shown["object"] == "session"
    assert 0 < shown["idle_seconds_left"] <= 600


def test_a_streamed_completion_continues_too(server: LocalServer, session: str, predictor: Predictor) -> None:
    stream = predictor.stream()
    stream.feed("the old")
    expected = ["".join(stream.generate(max_tokens=5, seed=2)) for _ in range(2)]
    chunks = [server.chunks(prompt=prompt, max_tokens=5, seed=2, session=session) for prompt in ("the old", "")]
    texts = ["".join(chunk["choices"][0]["text"] for chunk in part[:-1]) for part in chunks]
    assert texts == expected


def test_a_session_continues_after_the_text_that_was_sent(
    server: LocalServer, session: str, predictor: Predictor
) -> None:
    """A stop cuts within a token: neither that token nor those of the stop are read."""
    reader = predictor.stream()
    reader.feed("the")
    pieces = list(reader.generate(max_tokens=12, seed=5))
    text = "".join(pieces)
    stop = pieces[4][-1] + pieces[5]
    sent = text_of(server, prompt="the", max_tokens=12, seed=5, session=session, stop=stop)
    assert sent == text[: text.index(stop)]
    kept = [piece for end, piece in enumerate(pieces, 1) if len("".join(pieces[:end])) <= len(sent)]
    stream = predictor.stream()
    stream.feed("the")
    stream.feed_ids([predictor.vocabulary.encode(piece)[0] for piece in kept])
    expected = "".join(stream.generate(max_tokens=6, seed=1))
    assert text_of(server, max_tokens=6, seed=1, session=session) == expected
    assert server.request("GET", f"/v1/sessions/{session}").json()["tokens"] == 1 + len(kept) + 6


@pytest.mark.parametrize("stream", [False, True])
def test_a_session_reads_a_text_without_writing(
    server: LocalServer, session: str, predictor: Predictor, stream: bool
) -> None:
    fields = {"prompt": "the old", "max_tokens": 0, "session": session}
    if stream:
        text = "".join(chunk["choices"][0]["text"] for chunk in server.chunks(**fields)[:-1])
    else:
        text = text_of(server, **fields)
    assert text == ""
    reader = predictor.stream()
    reader.feed("the old")
    expected = "".join(reader.generate(max_tokens=4, seed=3))
    assert text_of(server, max_tokens=4, seed=3, session=session) == expected


def test_a_stop_at_once_leaves_the_prompt(server: LocalServer, session: str, predictor: Predictor) -> None:
    first = text_of(server, prompt="the cat", max_tokens=1, temperature=0)
    assert text_of(server, prompt="the cat", max_tokens=5, temperature=0, session=session, stop=first) == ""
    stream = predictor.stream()
    stream.feed("the cat")
    assert text_of(server, temperature=0, max_tokens=5, session=session) == "".join(
        stream.generate(max_tokens=5, temperature=0)
    )


def test_suggestions_move_a_session_on_by_their_text_only(
    server: LocalServer, session: str, predictor: Predictor
) -> None:
    stream = predictor.stream()
    stream.feed("the old")
    expected = [word for word, _ in stream.suggest(3)]
    for text in ("the old", "", ""):
        suggestions = server.post("/v1/suggest", text=text, count=3, session=session)["suggestions"]
        assert [item["token"] for item in suggestions] == expected
    assert server.request("GET", f"/v1/sessions/{session}").json()["tokens"] == 2
    assert text_of(server, session=session, max_tokens=4, seed=1) == "".join(stream.generate(max_tokens=4, seed=1))


def test_an_echo_in_a_session_is_scored_after_what_was_read(
    server: LocalServer, session: str, predictor: Predictor
) -> None:
    text_of(server, prompt="the cat", max_tokens=0, echo=True, session=session)
    (choice,) = server.complete(prompt=" saw the", max_tokens=0, echo=True, logprobs=0, session=session)["choices"]
    expected = predictor.score("the cat saw the").token_log_probs[2:]
    assert choice["logprobs"]["token_logprobs"] == pytest.approx(expected, abs=1e-6)


def test_two_requests_at_once_on_one_session(server: LocalServer, session: str, predictor: Predictor) -> None:
    async def both(client: httpx.AsyncClient) -> list[httpx.Response]:
        fields = {"prompt": "the", "max_tokens": 50, "session": session, "seed": 1}
        return await asyncio.gather(*(client.post("/v1/completions", json=fields) for _ in range(2)))

    answers = sorted(server.run(both), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [200, 409]
    assert answers[1].json()["error"]["code"] == "session_busy"
    assert server.request("GET", f"/v1/sessions/{session}").json()["tokens"] == 51


def test_a_failed_request_leaves_the_session_unchanged(
    server: LocalServer, session: str, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_of(server, prompt="the cat", max_tokens=2, seed=1, session=session)
    step, calls = predictor.network.run, 0

    def fails(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise RuntimeError("planted")
        return step(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(predictor.network, "run", fails)
        status, error = server.refused("/v1/completions", prompt=" saw", max_tokens=9, session=session)
    assert (status, error["code"]) == (503, "pool_failed")
    assert "planted" in error["message"]
    assert server.request("GET", f"/v1/sessions/{session}").json()["tokens"] == 4
    stream = predictor.stream()
    stream.feed("the cat")
    list(stream.generate(max_tokens=2, seed=1))
    assert text_of(server, max_tokens=4, seed=3, session=session) == "".join(stream.generate(max_tokens=4, seed=3))


def test_nan_gives_503_and_leaves_the_session_unchanged(
    server: LocalServer, session: str, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_of(server, prompt="the cat", max_tokens=2, seed=1, session=session)
    step = predictor.network.run

    def nan_logits(*args: Any, **options: Any) -> Any:
        logits, state = step(*args, **options)
        return logits * np.float32("nan"), state

    with monkeypatch.context() as patch:
        patch.setattr(predictor.network, "run", nan_logits)
        for path, fields in (
            ("/v1/completions", {"prompt": " saw", "session": session}),
            ("/v1/completions", {"prompt": "the cat", "echo": True, "max_tokens": 0, "logprobs": 1}),
            ("/v1/completions", {"prompt": "the", "stream": True}),
            ("/v1/suggest", {"text": " saw", "session": session}),
        ):
            status, error = server.refused(path, **fields)
            assert (status, error["code"]) == (503, "not_finite")
            assert "are not finite" in error["message"]
        assert "are not finite" in server.request("GET", "/health").json()["error"]["message"]
    assert server.request("GET", f"/v1/sessions/{session}").json()["tokens"] == 4
    text_of(server, max_tokens=2, session=session)


def test_a_session_with_an_infinite_state_gives_503(server: LocalServer, session: str) -> None:
    text_of(server, prompt="the cat", max_tokens=2, seed=1, session=session)
    kept = server.service.sessions.get(session)
    tensors = tuple(np.asarray(tensor) * np.float32("inf") for tensor in kept.state.state.tensors)
    kept.state = replace(kept.state, state=replace(kept.state.state, tensors=tensors))
    for path in ("/v1/completions", "/v1/suggest"):
        status, error = server.refused(path, session=session)
        assert (status, error["code"]) == (503, "not_finite")
        assert "begin another: POST /v1/sessions" in error["message"]


def test_unknown_sessions_give_404(server: LocalServer) -> None:
    for status, code in (
        server.refused("/v1/completions", prompt="the", session="none"),
        server.refused("/v1/suggest", text="the", session="none"),
    ):
        assert (status, code["code"]) == (404, "session_not_found")
    for method in ("GET", "DELETE"):
        assert server.request(method, "/v1/sessions/none").status_code == 404
    session_id = server.post("/v1/sessions")["id"]
    assert len(session_id) >= 32
    assert server.request("DELETE", f"/v1/sessions/{session_id}").json()["deleted"] is True
    assert server.request("GET", f"/v1/sessions/{session_id}").status_code == 404


def test_a_session_has_one_text(server: LocalServer, session: str) -> None:
    for fields in ({"n": 2}, {"prompt": ["a", "the"]}):
        status, error = server.refused("/v1/completions", session=session, **fields)
        assert (status, error["param"]) == (400, "session")


def test_sessions_are_bounded(server: LocalServer) -> None:
    session_ids = []
    while (answer := server.request("POST", "/v1/sessions", json={})).status_code == 201:
        session_ids.append(answer.json()["id"])
        assert len(session_ids) <= 20
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert "20 sessions are kept" in answer.json()["error"]["message"]
    assert f"lmtool_sessions {len(server.service.sessions)}.0" in server.request("GET", "/metrics").text
    for session in session_ids:
        server.request("DELETE", f"/v1/sessions/{session}")
    assert server.request("POST", "/v1/sessions", json={}).status_code == 201


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_idle_sessions_expire() -> None:
    clock = Clock()
    sessions = Sessions(ServeOptions(max_sessions=2, session_idle_seconds=10), clock)
    start = SessionState(State("0" * 64, (np.zeros((1, 3), np.float32),), np.zeros((1, 1), np.int64)))
    old, used = sessions.create(start), sessions.create(start)
    with pytest.raises(ApiError, match="2 sessions are kept, which is the limit"):
        sessions.create(start)
    clock.now = 9
    with sessions.take(used.id, "0" * 64):
        clock.now = 100  # a session in use does not expire, the other one does
        assert len(sessions) == 1
        with pytest.raises(ApiError, match="another request uses this session"), sessions.take(used.id, "0" * 64):
            pass
    assert sessions.idle_seconds_left(used) == 10
    with pytest.raises(ApiError, match="there is no such session"):
        sessions.get(old.id)
    sessions.create(start)  # there is room again
    clock.now = 109
    assert sessions.get(used.id) is used  # `get` does not count as use
    clock.now = 111
    assert len(sessions) == 0

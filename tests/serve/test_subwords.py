"""A model that reads bytes, served: pieces are whole characters, offsets count them, sessions go on within one."""

import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
from lmtool.runtime import Predictor
from support.models.subwords import FEW_MERGES, LOUD, WRITING_MERGES, bpe_artifact
from support.servers import LocalServer, local_server

TEXT = "the caté 日😀,  the\n"


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(bpe_artifact(FEW_MERGES))


@pytest.fixture(scope="module")
def server(predictor: Predictor) -> Iterator[LocalServer]:
    with local_server(predictor) as server:
        yield server


def choice_of(response: Any) -> Any:
    return response["choices"][0]


def test_texts_and_ids(server: LocalServer, predictor: Predictor) -> None:
    ids = server.post("/tokenize", prompt=TEXT)["tokens"]
    assert ids == predictor.vocabulary.encode(TEXT)
    assert server.post("/detokenize", tokens=ids)["prompt"] == TEXT
    info = server.request("GET", "/tokenizer_info").json()
    assert info == {"bos_token": "\n", "eos_token": "\n", "unk_token": "<unk>", "rule": "bpe"}


def test_suggestions_are_words(server: LocalServer, predictor: Predictor) -> None:
    for text, prefix in (("the", None), ("the ", None), ("the ", "t"), ("", "th")):
        stream = predictor.stream()
        stream.feed(text)
        expected = stream.next_words(20, prefix=prefix)
        answer = server.post("/v1/suggest", text=text, count=20, prefix=prefix)
        assert [entry["token"] for entry in answer["suggestions"]] == [word for word, _ in expected.words]
        assert answer.get("exact", True) == expected.exact
    session = server.post("/v1/sessions")["id"]
    whole = server.post("/v1/suggest", text="a the ", count=5, prefix="t")["suggestions"]
    server.post("/v1/suggest", text="a", session=session)
    assert server.post("/v1/suggest", text=" the ", session=session, count=5, prefix="t")["suggestions"] == whole
    assert server.post("/v1/suggest", session=session, count=5, prefix="t")["suggestions"] == whole


def test_a_session_that_ends_in_a_space_suggests_and_scores_as_the_whole_text(
    server: LocalServer, predictor: Predictor
) -> None:
    whole = server.post("/v1/suggest", text="a the ", count=5, prefix="t")["suggestions"]
    echoed = choice_of(server.complete(prompt="a the  b", echo=True, logprobs=2, max_tokens=0))["logprobs"]
    text = choice_of(server.complete(prompt="a the  b", max_tokens=9, temperature=0))["text"]
    for scored in ({}, {"echo": True, "logprobs": 2}):
        session = server.post("/v1/sessions")["id"]
        parts = [server.complete(session=session, prompt=part, max_tokens=0, **scored) for part in ("a the", " ", "")]
        assert server.post("/v1/suggest", session=session, count=5, prefix="t")["suggestions"] == whole
        assert server.request("GET", f"/v1/sessions/{session}").json()["tokens"] == len(
            predictor.vocabulary.encode("a the ")
        )
        parts.append(server.complete(session=session, prompt=" b", max_tokens=0, **scored))
        assert choice_of(server.complete(session=session, max_tokens=9, temperature=0))["text"] == text
        if scored:
            scores = [choice_of(part)["logprobs"] for part in parts]
            assert [x for part in scores if part for x in part["token_logprobs"]] == pytest.approx(
                echoed["token_logprobs"], abs=1e-5
            )


def test_an_echoed_prompt_is_the_text_with_offsets_in_characters(server: LocalServer, predictor: Predictor) -> None:
    for prompt in (TEXT, predictor.vocabulary.encode(TEXT)):
        choice = choice_of(server.complete(prompt=prompt, echo=True, logprobs=3, max_tokens=0))
        scores = choice["logprobs"]
        assert choice["text"] == "".join(scores["tokens"]) == TEXT
        offsets = [len("".join(scores["tokens"][:count])) for count in range(len(scores["tokens"]))]
        assert scores["text_offset"] == offsets
        expected = predictor.score(TEXT)
        assert scores["token_logprobs"] == pytest.approx(list(expected.token_log_probs), abs=1e-5)
        for token, log_prob, top in zip(
            scores["tokens"], scores["token_logprobs"], scores["top_logprobs"], strict=True
        ):
            assert top[token] == log_prob
            assert 3 <= len(top) <= 4 or "" in top


def test_a_text_is_that_of_a_stream_whole_and_streamed(server: LocalServer, predictor: Predictor) -> None:
    stream = predictor.stream()
    stream.feed("the")
    expected = list(stream.generate(40, temperature=0))
    fields = {"prompt": "the", "max_tokens": 40, "temperature": 0}
    assert choice_of(server.complete(**fields))["text"] == "".join(expected)
    watched = choice_of(server.complete(**fields, logprobs=1))
    assert watched["logprobs"]["tokens"] == expected
    texts = [choice_of(chunk)["text"] for chunk in server.chunks(**fields)[:-1]]
    assert "".join(texts) == "".join(expected)


def test_a_session_goes_on_within_a_character(server: LocalServer, predictor: Predictor) -> None:
    ids = predictor.vocabulary.encode("x😀y")
    whole = predictor.stream()
    whole.feed_ids(ids[:3])
    expected = "".join(whole.generate(30, temperature=0))
    session = server.post("/v1/sessions")["id"]
    server.complete(session=session, prompt=ids[:2], max_tokens=0)
    parts = [server.complete(session=session, prompt=[ids[2]], max_tokens=1, temperature=0)]
    parts += [server.complete(session=session, max_tokens=1, temperature=0) for _ in range(29)]
    assert "".join(choice_of(part)["text"] for part in parts) == expected


def test_a_session_goes_on_before_the_first_byte_of_a_stop(server: LocalServer, predictor: Predictor) -> None:
    first, last = (str(predictor.vocabulary.id(token)) for token in ("Ã", "©"))  # the bytes of é
    for seed in range(5):
        session = server.post("/v1/sessions")["id"]
        bias = {first: 100, last: 100}
        fields = {"session": session, "max_tokens": 30, "seed": seed, "stop": "é", "logit_bias": bias}
        choice = choice_of(server.complete(prompt="x", **fields))
        assert choice["finish_reason"] == "stop"
        kept = 1 + len(choice["text"])  # each byte before is one U+FFFD
        assert server.request("GET", f"/v1/sessions/{session}").json()["tokens"] == kept
        again = choice_of(server.complete(session=session, max_tokens=1, logit_bias={last: 100}))
        assert again["text"] == "\ufffd"


def test_words_that_never_appear_are_neither_written_nor_suggested() -> None:
    """Whole, streamed, and in a session of one token a request."""
    predictor = Predictor.load(bpe_artifact(WRITING_MERGES, LOUD))
    never = ("THE", "t", "1", "o-")
    words = [re.compile(rf"(^|[^a-z']){word}([^a-z']|$)", re.IGNORECASE) for word in ("the", "t", "1")]
    fields = {"prompt": "t", "max_tokens": 60, "seed": 4}
    with local_server(predictor) as free, local_server(predictor, never=never) as server:
        written = " ".join(choice["text"] for choice in free.complete(**fields, n=9)["choices"])
        assert all(word.search(written) for word in words)  # the positive control
        stream = predictor.stream()
        stream.feed("t")
        text = "".join(stream.generate(60, seed=4, never=never))
        assert not any(word.search(f"x{text}") for word in words)
        assert choice_of(server.complete(**fields))["text"] == text
        assert choice_of(server.complete(**fields, n=3, logprobs=2, stop="zz"))["text"] == text
        assert "".join(choice_of(chunk)["text"] for chunk in server.chunks(**fields)[:-1]) == text
        session = server.post("/v1/sessions")["id"]
        fields = {"session": session, "temperature": 0, "logit_bias": {str(predictor.vocabulary.id("h")): 20}}
        parts = [server.complete(prompt="t" if not number else "", max_tokens=1, **fields) for number in range(30)]
        whole = choice_of(server.complete(prompt="t", max_tokens=30, **{**fields, "session": None}))["text"]
        assert "".join(choice_of(part)["text"] for part in parts) == whole
        suggested = {entry["token"] for entry in server.post("/v1/suggest", text="e", count=100)["suggestions"]}
        assert len(suggested) > 9
        assert not suggested & {"the", "The", "t", "T", "1"}


def test_a_text_after_a_space_is_the_prompt_and_the_completion(server: LocalServer, predictor: Predictor) -> None:
    vocabulary = predictor.vocabulary
    for prompt in ("the ", "a\n ", "the  ", vocabulary.encode("the ")):
        text = prompt if isinstance(prompt, str) else vocabulary.decode(prompt)
        stream = predictor.stream()
        stream.feed(text)
        expected = list(stream.generate(30, seed=2))
        fields = {"prompt": prompt, "max_tokens": 30, "seed": 2}
        response = server.complete(**fields, n=2)
        assert choice_of(response)["text"] == "".join(expected)
        assert response["usage"]["prompt_tokens"] == len(vocabulary.encode(text))
        assert response["usage"]["completion_tokens"] == 60
        echoed = choice_of(server.complete(**fields, echo=True, logprobs=3))
        assert echoed["text"] == text + "".join(expected)
        scores, count = echoed["logprobs"], len(vocabulary.encode(text))
        assert scores["tokens"][count:] == expected
        assert scores["text_offset"][count] == len(text)
        assert scores["token_logprobs"][:count] == pytest.approx(predictor.score(text).token_log_probs, abs=1e-5)
        first = scores["top_logprobs"][count]
        assert len(first) == 2  # all tokens that begin with a space
        assert sum(map(math.exp, first.values())) == pytest.approx(1)
        assert "".join(choice_of(chunk)["text"] for chunk in server.chunks(**fields)[:-1]) == "".join(expected)


def test_a_session_goes_on_after_a_space(server: LocalServer, predictor: Predictor) -> None:
    whole = choice_of(server.complete(prompt="the ", max_tokens=20, temperature=0))["text"]
    for prompts in (["the "], ["the", " "], ["the ", ""]):
        session = server.post("/v1/sessions")["id"]
        for prompt in prompts:
            server.complete(session=session, prompt=prompt, max_tokens=0)
        parts = [choice_of(server.complete(session=session, max_tokens=10, temperature=0))["text"] for _ in range(2)]
        assert "".join(parts) == whole
        # the space is part of the token that was written after it
        assert server.request("GET", f"/v1/sessions/{session}").json()["tokens"] == 21
    spaced = [index for index, token in enumerate(predictor.vocabulary.tokens) if token.startswith("\u0120")]
    bias = {str(index): -100 for index in spaced}
    assert server.complete(prompt="the", max_tokens=1, logit_bias=bias)["usage"]["completion_tokens"] == 1
    response = server.request("POST", "/v1/completions", json={"prompt": "the ", "max_tokens": 1, "logit_bias": bias})
    assert response.status_code == 400
    assert "begin with the space at the end of the prompt" in response.json()["error"]["message"]


def test_a_session_goes_on_before_a_token_that_a_stop_cuts(server: LocalServer, predictor: Predictor) -> None:
    session = server.post("/v1/sessions")["id"]
    bias = {str(predictor.vocabulary.id("\u0120the")): 100}
    fields = {"session": session, "max_tokens": 9, "logit_bias": bias, "stop": "he"}
    assert choice_of(server.complete(prompt="a ", **fields))["text"] == "t"
    tokens = server.request("GET", f"/v1/sessions/{session}").json()["tokens"]
    assert tokens == 2
    assert choice_of(server.complete(prompt="", **fields))["text"] == "t"

"""A model that reads bytes, served: pieces are whole characters, offsets count them, sessions go on within one."""

from collections.abc import Iterator
from typing import Any

import pytest
from lmtool.runtime import Predictor
from support.models.subwords import FEW_MERGES, bpe_artifact
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

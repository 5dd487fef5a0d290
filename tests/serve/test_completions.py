"""Completions: the numbers and texts of the runtime's streams, in OpenAI's format."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import Predictor, Tokenization
from support.models.networks import network_of, predictor_of
from support.prose import PROSE, SAME
from support.servers import LocalServer, local_server

PROMPT = "the old market sold"
CLOSE = 1e-6


@pytest.fixture(scope="module")
def server(predictor: Predictor) -> Iterator[LocalServer]:
    with local_server(predictor) as instance:
        yield instance


def generated(predictor: Predictor, prompt: str, **options: Any) -> list[str]:
    """The pieces that a stream generates."""
    stream = predictor.stream()
    stream.feed(prompt)
    return list(stream.generate(**options))


def only(answer: Any) -> Any:
    (choice,) = answer["choices"]
    return choice


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 3},
        {"seed": 4, "temperature": 0.5},
        {"seed": 5, "top_p": 0.6},
        {"temperature": 0.0, "seed": 1},
        {"seed": 6, "top_k": 3},
        {"seed": 7, "repetition_penalty": 5.0},
        {"temperature": 0.0, "seed": 8, "repetition_penalty": 1.3},
        {"seed": 9, "top_k": 2, "top_p": 0.9, "repetition_penalty": 1.2, "temperature": 1.5},
    ],
    ids=str,
)
def test_text_is_that_of_a_stream_with_the_same_seed(
    server: LocalServer, predictor: Predictor, options: dict[str, Any]
) -> None:
    for prompt in (PROMPT, "", "one trader\n"):
        expected = "".join(generated(predictor, prompt, max_tokens=20, **options))
        choice = only(server.complete(prompt=prompt, max_tokens=20, **options))
        assert choice == {"index": 0, "text": expected, "logprobs": None, "finish_reason": "length"}


def test_the_response_has_openais_fields(server: LocalServer) -> None:
    answer = server.complete(model="model", prompt=PROMPT, max_tokens=3, user="somebody", best_of=1, suffix="")
    assert set(answer) == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert (answer["object"], answer["model"]) == ("text_completion", "model")
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}
    assert answer["id"] != server.complete(prompt=PROMPT)["id"]
    assert server.complete(prompt=PROMPT)["usage"]["completion_tokens"] == 16


def test_without_a_seed_responses_differ(server: LocalServer) -> None:
    assert len({only(server.complete(prompt="the", max_tokens=30))["text"] for _ in range(4)}) > 1


def test_choices_are_drawn_by_seed_and_index(server: LocalServer, predictor: Predictor) -> None:
    choices = server.complete(prompt=["the", "a dog"], n=3, seed=7, max_tokens=12)["choices"]
    assert [choice["index"] for choice in choices] == list(range(6))
    assert choices[0]["text"] == "".join(generated(predictor, "the", max_tokens=12, seed=7))
    assert len({choice["text"] for choice in choices[:3]}) == 3
    again = server.complete(prompt="a dog", n=2, seed=7, max_tokens=12)["choices"]
    assert [choice["text"] for choice in again] == [choice["text"] for choice in choices[3:5]]
    random = np.random.default_rng([7, 1])
    stream = predictor.stream()
    stream.feed("a dog")
    assert choices[4]["text"].startswith(first_word(predictor, stream.logits(), random))


def first_word(predictor: Predictor, logits: Any, random: Any) -> str:
    from lmtool.runtime import Sampling, TextDecoder

    logits = logits.copy()
    logits[predictor.vocabulary.unknown_id] = -np.inf
    chosen = Sampling().choose(logits, random, at_boundary=True)
    return TextDecoder(predictor.vocabulary, predictor.vocabulary.id("dog")).add(chosen)


def test_echoed_log_probabilities_are_those_of_score(server: LocalServer, predictor: Predictor) -> None:
    text = "  the cat zebra\nsaw  the news " + "a dog sold two shares " * 20
    choice = only(server.complete(prompt=text, echo=True, logprobs=2, max_tokens=0))
    logprobs, score = choice["logprobs"], predictor.score(text)
    assert choice["text"] == text == "".join(logprobs["tokens"])
    assert choice["finish_reason"] == "length"
    assert logprobs["token_logprobs"] == pytest.approx(score.token_log_probs, abs=CLOSE)
    assert logprobs["text_offset"] == [0, *itertools.accumulate(map(len, logprobs["tokens"]))][:-1]
    for piece, own, top in zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True):
        assert top[piece] == own
        assert len(top) == 2 if own >= sorted(top.values())[-2] else len(top) == 3
    assert {token for token in logprobs["tokens"] if "zebra" in token} == {" zebra"}


def test_scores_of_drawn_tokens_do_not_depend_on_the_temperature(server: LocalServer, predictor: Predictor) -> None:
    options = {"prompt": PROMPT, "max_tokens": 10, "seed": 2, "logprobs": 3}
    cool, plain = (only(server.complete(**options, temperature=heat)) for heat in (0.3, 1.0))
    for choice in (cool, plain):
        whole = predictor.score(PROMPT + choice["text"]).token_log_probs[4:]
        assert choice["logprobs"]["token_logprobs"] == pytest.approx(whole, abs=CLOSE)
        assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
        assert choice["logprobs"]["text_offset"][0] == 0
    assert cool["text"] != plain["text"]


def test_the_most_probable_tokens_are_those_that_are_suggested(server: LocalServer, predictor: Predictor) -> None:
    stream = predictor.stream()
    stream.feed(PROMPT)
    expected = {f" {word}": np.log(share) for word, share in stream.suggest(5, allow_unknown=True)}
    expected["\n"] = stream.fork().score("\n").log_prob
    expected = dict(sorted(expected.items(), key=lambda item: -item[1])[:5])
    top = only(server.complete(prompt=PROMPT, max_tokens=1, temperature=0, logprobs=5))["logprobs"]["top_logprobs"][0]
    assert list(top) == list(expected)
    assert list(top.values()) == pytest.approx(list(expected.values()), abs=CLOSE)


def test_logprobs_of_0_names_the_token_itself_only(server: LocalServer) -> None:
    logprobs = only(server.complete(prompt=PROMPT, max_tokens=2, logprobs=0))["logprobs"]
    own = zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True)
    assert logprobs["top_logprobs"] == [{token: log_prob} for token, log_prob in own]


def test_prompts_may_be_ids(server: LocalServer, predictor: Predictor) -> None:
    vocabulary = predictor.vocabulary
    ids = vocabulary.encode(PROMPT)
    options = {"seed": 1, "max_tokens": 8}
    expected = only(server.complete(prompt=PROMPT, **options))["text"]
    assert only(server.complete(prompt=ids, **options))["text"] == expected
    both = server.complete(prompt=[ids, vocabulary.encode("the")], **options)["choices"]
    assert both[0]["text"] == expected
    assert only(server.complete(prompt=ids, echo=True, max_tokens=0))["text"] == vocabulary.decode(ids)


def test_ids_that_begin_with_an_end_of_sentence_begin_the_text_with_it(
    server: LocalServer, predictor: Predictor
) -> None:
    vocabulary, end = predictor.vocabulary, predictor.vocabulary.end_of_sentence_id
    ids = vocabulary.encode(PROMPT)
    options = {"echo": True, "logprobs": 1, "max_tokens": 0}
    bare, led = (only(server.complete(prompt=prompt, **options))["logprobs"] for prompt in (ids, [end, *ids]))
    assert led["token_logprobs"][0] is None
    assert led["top_logprobs"][0] is None
    assert led["token_logprobs"][1:] == pytest.approx(bare["token_logprobs"], abs=CLOSE)
    texts = [only(server.complete(prompt=prompt, seed=3))["text"] for prompt in (ids, [end, *ids])]
    assert texts[0] == texts[1]
    newline = only(server.complete(prompt=f"\n{PROMPT}", **options))["logprobs"]["token_logprobs"]
    assert newline == pytest.approx(predictor.score(f"\n{PROMPT}").token_log_probs, abs=CLOSE)


def test_prose_of_any_script_is_echoed() -> None:
    texts = [*(text for text, _ in PROSE.values()), *itertools.chain(*SAME.values())]
    tokenization = Tokenization.of_rule("words-2")
    known = sorted({token for text in texts[::2] for token in tokenization.split(text)} - {*tokenization.specials})
    tokens = [*tokenization.specials, *known]
    with local_server(predictor_of(network_of((3,), vocabulary=len(tokens)), tokens, "words-2")) as server:
        choices = server.complete(prompt=texts[:32], echo=True, max_tokens=0, logprobs=0)["choices"]
        choices += server.complete(prompt=texts[32:], echo=True, max_tokens=0, logprobs=0)["choices"]
    for text, choice in zip(texts, choices, strict=True):
        folded = tokenization.folded(text)
        assert choice["text"] == (text if len(folded) == len(text) else folded)
        assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
        assert len(choice["logprobs"]["tokens"]) == len(tokenization.split(text))


@pytest.mark.parametrize("space", [" ", "  ", "\t"])
def test_a_prompt_that_ends_in_a_space_gets_no_second_one(server: LocalServer, space: str) -> None:
    fields = {"seed": 4, "max_tokens": 6, "logprobs": 0, "n": 2}
    bare = server.complete(prompt=PROMPT, **fields)["choices"]
    spaced = server.complete(prompt=PROMPT + space, **fields)["choices"]
    echoed = server.complete(prompt=PROMPT + space, echo=True, **fields)["choices"]
    for first, second, third in zip(bare, spaced, echoed, strict=True):
        assert first["text"].startswith(" ")
        assert second["text"] == first["text"][1:]
        assert "".join(second["logprobs"]["tokens"]) == second["text"]
        assert third["text"] == PROMPT + space + second["text"]
        assert third["logprobs"]["text_offset"][-6] == len(PROMPT + space)
    assert not only(server.complete(prompt=space, max_tokens=3))["text"].startswith(" ")


def test_a_bias_rules_tokens_out_and_in(server: LocalServer, predictor: Predictor) -> None:
    vocabulary, fields = predictor.vocabulary, {"prompt": PROMPT, "max_tokens": 30, "seed": 5, "logprobs": 0}
    plain = only(server.complete(**fields))
    never = {piece.strip() for piece in plain["logprobs"]["tokens"][:20]} - {""}
    bias = {str(vocabulary.id(word)): -100 for word in never}
    biased = only(server.complete(**fields, logit_bias=bias))
    assert len(never) > 3
    assert not never & {piece.strip() for piece in biased["logprobs"]["tokens"]}
    scores = predictor.score(PROMPT + biased["text"]).token_log_probs[4:]  # the model's own
    assert biased["logprobs"]["token_logprobs"] == pytest.approx(scores, abs=CLOSE)
    always = only(server.complete(prompt="the", max_tokens=4, logit_bias={str(vocabulary.id("cat")): 100}))
    assert always["text"] == " cat" * 4
    unknown = only(server.complete(prompt="the", max_tokens=9, logit_bias={str(vocabulary.unknown_id): 100}))
    assert "<unk>" not in unknown["text"]
    unchanged = only(server.complete(**fields, logit_bias={str(vocabulary.id("cat")): 0}))
    assert unchanged["text"] == plain["text"]


def test_words_of_the_option_are_neither_written_nor_suggested(predictor: Predictor) -> None:
    never, fields = ("The", "a", "CAT", "zebra"), {"prompt": "the cat saw", "seed": 5, "max_tokens": 60}
    expected = "".join(generated(predictor, "the cat saw", max_tokens=60, seed=5, never=never))
    with local_server(predictor, never=never) as server:
        text = only(server.complete(**fields))["text"]
        favoured = only(server.complete(**fields, logit_bias={str(predictor.vocabulary.id("the")): 100}))["text"]
        suggested = server.post("/v1/suggest", text="the cat saw", count=50)["suggestions"]
        completed = server.post("/v1/suggest", text="the cat saw", prefix="c")["suggestions"]
    assert text == expected
    assert not {"the", "a", "cat"} & {*favoured.split(), *text.split()}
    words = {suggestion["token"] for suggestion in (*suggested, *completed)}
    assert words
    assert not words & {"the", "a", "cat"}


def test_a_bias_leaves_a_token_to_write(server: LocalServer, predictor: Predictor) -> None:
    ids = map(str, range(len(predictor.vocabulary)))
    status, error = server.refused("/v1/completions", prompt="the", logit_bias=dict.fromkeys(ids, -100))
    assert (status, error["param"]) == (400, "logit_bias")
    assert "-100 for all tokens, expected one that may be written" in error["message"]


def test_the_unknown_token_is_never_drawn(
    server: LocalServer, own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, unknown = own_predictor.network.run, own_predictor.vocabulary.unknown_id

    def biased(*args: Any, **options: Any) -> Any:
        logits, state = step(*args, **options)
        logits[..., unknown] += 50
        return logits, state

    monkeypatch.setattr(own_predictor.network, "run", biased)
    with local_server(own_predictor, allow_inexact=True) as server:
        choice = only(server.complete(prompt="the", max_tokens=40, seed=1, logprobs=1))
    assert "<unk>" not in choice["text"]
    assert {max(top, key=top.__getitem__) for top in choice["logprobs"]["top_logprobs"]} == {" <unk>", "<unk>"}


def test_text_ends_before_a_stop_that_spans_tokens(server: LocalServer, predictor: Predictor) -> None:
    pieces = generated(predictor, "the", max_tokens=30, seed=5)
    text = "".join(pieces)
    stop = pieces[9][1:] + pieces[10][:2] if len(pieces[9]) > 1 else pieces[9] + pieces[10][:2]
    expected = text[: text.index(stop)]
    for stops in (stop, [stop, "never there"]):
        choice = only(server.complete(prompt="the", max_tokens=30, seed=5, stop=stops, logprobs=0))
        assert (choice["text"], choice["finish_reason"]) == (expected, "stop")
        assert "".join(choice["logprobs"]["tokens"]) == expected
    chunks = server.chunks(prompt="the", max_tokens=30, seed=5, stop=stop)
    sent = [only(chunk) for chunk in chunks[:-1]]
    assert "".join(choice["text"] for choice in sent) == expected
    assert [choice["finish_reason"] for choice in sent] == [None] * (len(sent) - 1) + ["stop"]
    assert chunks[-1] == "[DONE]"
    one = only(server.complete(prompt="the", max_tokens=30, seed=5, stop="\n"))
    assert one["text"] == text.partition("\n")[0]


def test_a_stream_is_the_whole_response_in_parts(server: LocalServer) -> None:
    options = {"prompt": ["the", "a dog saw"], "n": 2, "seed": 6, "max_tokens": 9, "logprobs": 1, "echo": True}
    whole = server.complete(**options)
    *chunks, usage, done = server.chunks(**options, stream_options={"include_usage": True})
    assert done == "[DONE]"
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert {chunk["id"] for chunk in chunks} == {usage["id"]}
    assert {chunk["usage"] for chunk in chunks} == {None}
    for expected in whole["choices"]:
        parts = [part for chunk in chunks for part in chunk["choices"] if part["index"] == expected["index"]]
        assert "".join(part["text"] for part in parts) == expected["text"]
        for name, values in expected["logprobs"].items():
            assert [value for part in parts for value in part["logprobs"][name]] == values
        assert [part["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + ["length"]
    assert len(chunks) >= 2 * 4  # the echo, and then what comes in time for an event


def test_a_long_prompt_is_echoed_and_scored(server: LocalServer, predictor: Predictor) -> None:
    text = "the old market sold a house\n" * 100
    options = {"prompt": text, "echo": True, "logprobs": 1, "max_tokens": 1, "seed": 1}
    whole = only(server.complete(**options))
    *chunks, _ = server.chunks(**options)
    expected = predictor.score(text).token_log_probs
    assert whole["logprobs"]["token_logprobs"][:-1] == pytest.approx(expected, abs=CLOSE)
    assert "".join(only(chunk)["text"] for chunk in chunks) == whole["text"]
    assert [value for chunk in chunks for value in only(chunk)["logprobs"]["tokens"]] == whole["logprobs"]["tokens"]


@pytest.mark.parametrize("blank", ["", " ", "\t", " \u2003  "])
def test_a_prompt_without_tokens_is_echoed_as_it_was_sent(
    server: LocalServer, predictor: Predictor, blank: str
) -> None:
    expected = generated(predictor, "", max_tokens=4, seed=1)
    options = {"prompt": blank, "echo": True, "max_tokens": 4, "seed": 1}
    choice = only(server.complete(**options, logprobs=1))
    assert choice["text"] == blank + "".join(expected)
    logprobs = choice["logprobs"]
    assert logprobs["tokens"] == expected
    assert logprobs["text_offset"] == [len(blank), *itertools.accumulate(map(len, expected), initial=len(blank))][1:-1]
    assert logprobs["token_logprobs"] == pytest.approx(predictor.score("".join(expected)).token_log_probs, abs=CLOSE)
    *chunks, done = server.chunks(**options)
    assert done == "[DONE]"
    assert "".join(only(chunk)["text"] for chunk in chunks) == choice["text"]
    nothing = only(server.complete(prompt=blank, echo=True, max_tokens=0, logprobs=1))
    assert (nothing["text"], nothing["logprobs"]["tokens"]) == (blank, [])


def test_a_blank_prompt_among_others_and_in_a_session_is_echoed(server: LocalServer) -> None:
    options = {"echo": True, "max_tokens": 3, "seed": 1}
    alone = [only(server.complete(prompt=prompt, **options))["text"] for prompt in ("the", " ")]
    choices = server.complete(prompt=["the", " "], n=2, **options)["choices"]
    assert [choices[0]["text"], choices[2]["text"]] == alone
    assert choices[3]["text"].startswith(" ")
    session = server.post("/v1/sessions")["id"]
    texts = [only(server.complete(prompt=prompt, session=session, **options))["text"] for prompt in ("the", " ")]
    assert texts[0] == alone[0]
    assert texts[1].startswith(" ")
    assert server.request("GET", f"/v1/sessions/{session}").json()["tokens"] == 1 + 3 + 3


def test_requests_share_calls_of_the_model(server: LocalServer) -> None:
    before = server.service.engine.pool.stats
    server.complete(prompt="the", n=8, max_tokens=20)
    after = server.service.engine.pool.stats
    assert after.requests - before.requests == 1 + 8 * 20
    assert after.calls - before.calls < (after.requests - before.requests) / 2


def test_finished_requests_release_slots_and_streams(server: LocalServer) -> None:
    server.complete(prompt=["the", "a"], n=2, max_tokens=3)
    server.chunks(prompt="the", max_tokens=3)
    assert server.service.slots.taken == 0
    assert server.service.engine.pool.stats.open_streams == 0


def test_suggestions_are_those_of_a_stream(server: LocalServer, predictor: Predictor) -> None:
    stream = predictor.stream()
    stream.feed("the old")
    for fields, expected in (
        ({"count": 4}, stream.suggest(4)),
        ({}, stream.suggest(5)),
        ({"prefix": "m"}, stream.suggest(5, prefix="m")),
        ({"prefix": "zzz"}, []),
    ):
        suggestions = server.post("/v1/suggest", text="the old", **fields)["suggestions"]
        assert [item["token"] for item in suggestions] == [word for word, _ in expected]
        assert [item["probability"] for item in suggestions] == pytest.approx(
            [share for _, share in expected], rel=CLOSE
        )
    assert len(server.post("/v1/suggest")["suggestions"]) == 5

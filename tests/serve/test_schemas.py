"""Refused requests: status, message, and every limit."""

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from lmtool.cli.app import app
from lmtool.runtime import OptionError, Predictor
from lmtool.serve import ServeOptions, checked_key
from lmtool.serve.schemas import CompletionRequest
from support.servers import LocalServer, local_server

JSON = {"content-type": "application/json"}
LIMITS = {
    "max_body_bytes": 20_000,
    "max_prompt_tokens": 30,
    "max_tokens": 40,
    "max_n": 3,
    "max_prompts": 4,
    "max_choices": 6,
    "max_stop_chars": 8,
    "max_suggestions": 7,
}


@pytest.fixture(scope="module")
def server(predictor: Predictor) -> Iterator[LocalServer]:
    with local_server(predictor, **LIMITS) as instance:
        yield instance


BAD: list[tuple[dict[str, Any], str | None, str]] = [
    ({"prompt": 1}, "prompt", "prompt is 1, expected a string"),
    ({"prompt": []}, "prompt", r"prompt is \[\]"),
    ({"prompt": [[]]}, "prompt", "none of them empty"),
    ({"prompt": ["a", 1]}, "prompt", "expected a string"),
    ({"prompt": [True]}, "prompt", "expected a string"),
    ({"prompt": [10**30]}, "prompt", "outside the vocabulary"),
    ({"prompt": [-1]}, "prompt", "token id -1 is outside the vocabulary"),
    ({"max_tokens": -1}, "max_tokens", "max_tokens is -1"),
    ({"max_tokens": 2.5}, "max_tokens", "max_tokens is 2.5"),
    ({"max_tokens": True}, "max_tokens", "max_tokens is True"),
    ({"max_tokens": "5"}, "max_tokens", "max_tokens is '5'"),
    ({"max_tokens": 10**400}, "max_tokens", "max_tokens"),
    ({"max_tokens": 0}, "max_tokens", "0 goes with echo, or with a session"),
    ({"temperature": -0.1}, "temperature", "temperature is -0.1"),
    ({"temperature": 2.1}, "temperature", "temperature is 2.1"),
    ({"top_p": 0}, "top_p", "top_p is 0"),
    ({"top_p": 1.1}, "top_p", "top_p is 1.1"),
    ({"n": 0}, "n", "n is 0"),
    ({"best_of": 2}, "best_of", "best_of is 2, expected n, 1"),
    ({"logprobs": 6}, "logprobs", "logprobs is 6"),
    ({"logprobs": True}, "logprobs", "logprobs is True"),
    ({"echo": "yes"}, "echo", "echo is 'yes'"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "without stream"),
    ({"stream": True, "stream_options": {"more": 1}}, "more", "unknown fields 'more'"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options", "does not pad events"),
    ({"stop": ["a"] * 5}, "stop", "stop has 5 strings, expected 4 or fewer"),
    ({"stop": [""]}, "stop", "an empty string"),
    ({"stop": [1]}, "stop", r"stop is \[1\]"),
    ({"seed": -1}, "seed", "seed is -1"),
    ({"seed": 2**63}, "seed", "seed is 9223372036854775808"),
    ({"suffix": "end"}, "suffix", "suffix is 'end', which this server does not support"),
    ({"logit_bias": {"1": 100.5}}, "logit_bias", "logit_bias is 100.5, but input should be less than or equal to 100"),
    ({"logit_bias": {"1": True}}, "logit_bias", "logit_bias is True"),
    ({"logit_bias": [1]}, "logit_bias", r"logit_bias is \[1\]"),
    ({"logit_bias": {"the": 1}}, "logit_bias", "logit_bias has the token id 'the', expected 0 to"),
    ({"logit_bias": {"5": -100, "05": 1}}, "logit_bias", "logit_bias has the token id '05', expected 0 to"),
    ({"logit_bias": {"-1": 1}}, "logit_bias", "logit_bias has the token id '-1'"),
    ({"logit_bias": {"9" * 5000: 1}}, "logit_bias", "logit_bias has the token id '9999"),
    ({"logit_bias": {str(number): -100 for number in range(999)}}, "logit_bias", "logit_bias has the token id"),
    ({"presence_penalty": 0.5}, "presence_penalty", "presence_penalty is 0.5"),
    ({"frequency_penalty": False}, "frequency_penalty", "frequency_penalty is False"),
    ({"min_p": 1, "mirostat": 2}, "min_p", "unknown fields 'min_p', 'mirostat', expected some of model, prompt"),
    ({"top_k": -2}, "top_k", "top_k is -2, but input should be greater than or equal to -1"),
    ({"top_k": 1.5}, "top_k", "top_k is 1.5"),
    ({"top_k": True}, "top_k", "top_k is True"),
    ({"repetition_penalty": 0.9}, "repetition_penalty", "repetition_penalty is 0.9, but input should be greater"),
    ({"repetition_penalty": "1"}, "repetition_penalty", "repetition_penalty is '1'"),
    ({"prompt": "the " * 31}, "prompt", "the prompt has 31 tokens, expected 30 or fewer"),
    ({"prompt": [1] * 31}, "prompt", "the prompt has 31 tokens"),
    ({"max_tokens": 41}, "max_tokens", "max_tokens is 41, expected 40 or fewer"),
    ({"n": 4}, "n", "n is 4, expected 3 or fewer"),
    ({"prompt": ["a"] * 5}, "prompt", "prompt has 5 prompts, expected 4 or fewer"),
    ({"prompt": ["a"] * 3, "n": 3}, "n", "n has 9 choices of all prompts together, expected 6 or fewer"),
    ({"stop": "x" * 9}, "stop", "stop has 9 characters, expected 8 or fewer"),
]


@pytest.mark.parametrize(("fields", "param", "message"), BAD, ids=lambda value: str(value)[:40])
def test_completions_that_are_refused(
    server: LocalServer, fields: dict[str, Any], param: str | None, message: str
) -> None:
    answer = server.request("POST", "/v1/completions", content=json.dumps({"prompt": "the", **fields}), headers=JSON)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert re.search(message, error["message"]), error


def test_values_without_effect_are_accepted(server: LocalServer) -> None:
    neutral = {"suffix": None, "logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0.0, "best_of": None}
    neutral |= {"repetition_penalty": 1}
    fields = CompletionRequest.model_fields.keys() - {"model", "prompt", "max_tokens", "user", "session", *neutral}
    unset = dict.fromkeys(sorted(fields))
    answer = server.complete(prompt="the", max_tokens=None, user=None, **neutral, **unset)
    server.complete(prompt="the", logit_bias=None)
    for repetition_penalty, top_k in ((None, -1), (1.0, 0)):
        server.complete(prompt="the", repetition_penalty=repetition_penalty, top_k=top_k)
    assert answer["usage"]["completion_tokens"] == 16
    assert server.complete(prompt="the", max_tokens=40, n=3, stop=["x" * 8] * 4, seed=2**63 - 1)["choices"][2]["text"]
    assert server.complete(prompt=["the " * 30] * 2, max_tokens=1, temperature=1e-300)["usage"]["prompt_tokens"] == 60
    assert server.complete(max_tokens=2)["usage"]["prompt_tokens"] == 0


BODIES = [
    (b"", "is not JSON"),
    (b"[]", r"the body is \[\], expected a JSON object"),
    (b'"text"', "the body is 'text'"),
    (b'{"prompt": "the', "is not JSON"),
    (b'{"prompt": "\xff"}', "is not JSON"),
    ('{"prompt": "the"}'.encode("utf-16"), "is not JSON"),
    (b'{"\\ud800": 1}', "the name of a field is no Unicode text, expected some of model, prompt"),
    (b'{"temperature": NaN}', "NaN is no JSON number"),
    (b'{"temperature": -Infinity}', "-Infinity is no JSON number"),
    (b'{"temperature": 1e999}', "temperature is inf"),
    (b'{"seed": ' + b"9" * 5000 + b"}", "is not JSON"),
    (b'{"prompt": ' + b"[" * 9000 + b"]" * 9000 + b"}", "nested too deeply"),
    (b'{"prompt": ' + b"[" * 400 + b"]" * 400 + b"}", "expected a string"),
    (b'{"prompt": ' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}", "expected a string"),
]


@pytest.mark.parametrize(("body", "message"), BODIES, ids=lambda value: str(value)[:30])
def test_malformed_bodies_are_refused(server: LocalServer, body: bytes, message: str) -> None:
    answer = server.request("POST", "/v1/completions", content=body, headers=JSON)
    assert answer.status_code == 400, answer.text
    assert re.search(message, answer.json()["error"]["message"]), answer.text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; a=b", ""])
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/suggest", "/v1/sessions", "/tokenize"])
def test_content_types_of_forms_are_refused(server: LocalServer, path: str, kind: str) -> None:
    answer = server.request("POST", path, content=b'{"prompt": "the"}', headers={"content-type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert server.request(
        "POST", "/v1/suggest", content=b"{}", headers={"content-type": "Application/JSON; charset=utf-8"}
    )


def test_bodies_are_bounded_with_and_without_content_length(server: LocalServer) -> None:
    body = json.dumps({"prompt": "x" * 20_000}).encode()

    async def parts() -> Any:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    with_length = server.request("POST", "/v1/completions", content=body, headers=JSON)
    without_length = server.run(lambda client: client.post("/v1/completions", content=parts(), headers=JSON))
    for answer in (with_length, without_length):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    lie = server.request("POST", "/v1/completions", content=b"{}", headers={**JSON, "content-length": "9" * 30})
    assert lie.status_code == 413


def test_unpaired_surrogates_are_accepted(server: LocalServer) -> None:
    body = b'{"prompt": "the \\ud800 cat", "echo": true, "max_tokens": 0}'
    answer = server.request("POST", "/v1/completions", content=body, headers=JSON)
    assert answer.json()["choices"][0]["text"] == "the \ud800 cat"
    answer = server.request("POST", "/v1/suggest", content=b'{"text": "\\ud800"}', headers=JSON)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"count": 0}, 400, "count is 0"),
        ({"count": 8}, 400, "count is 8, expected 7 or fewer"),
        ({"prefix": "é" * 16}, 400, "prefix has 32 bytes, expected 30 or fewer"),
        ({"prefix": "two words"}, 400, "expected the letters of one word"),
        ({"text": "the " * 31}, 400, "the prompt has 31 tokens"),
        ({"text": 1}, 400, "text is 1"),
        ({"model": "gpt"}, 404, "there is no model 'gpt', expected 'model'"),
        ({"top": 1}, 400, "unknown fields 'top'"),
    ],
)
def test_suggestions_that_are_refused(server: LocalServer, fields: dict[str, Any], status: int, message: str) -> None:
    actual, error = server.refused("/v1/suggest", **fields)
    assert actual == status
    assert message in error["message"]


def test_models_and_paths(server: LocalServer) -> None:
    assert [model["id"] for model in server.request("GET", "/v1/models").json()["data"]] == ["model"]
    assert server.request("GET", "/v1/models/model").json()["object"] == "model"
    assert server.request("GET", "/v1/models/gpt").json()["error"]["code"] == "model_not_found"
    assert server.refused("/v1/completions", model="gpt")[0] == 404
    nowhere = server.request("GET", "/v1/chat/completions")
    assert nowhere.status_code == 404
    assert "expected one of" in nowhere.json()["error"]["message"]
    wrong = server.request("GET", "/v1/completions")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "no_such_endpoint")


def test_the_tokenizer_is_the_models(server: LocalServer, predictor: Predictor) -> None:
    info = server.request("GET", "/tokenizer_info").json()
    assert info == {"bos_token": "<eos>", "eos_token": "<eos>", "unk_token": "<unk>", "rule": "whitespace"}
    body = server.post("/tokenize", prompt="the cat\nzebra", add_special_tokens=False)
    assert body["tokens"] == predictor.vocabulary.encode("the cat\nzebra")
    assert body["count"] == 4
    assert server.post("/detokenize", tokens=body["tokens"])["prompt"] == "the cat\n<unk>"
    assert server.refused("/detokenize", tokens=[10**6])[0] == 400
    assert server.refused("/tokenize")[1]["message"] == "prompt is missing; send it"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:80"])
def test_other_host_names_are_refused_on_loopback(server: LocalServer, host: str) -> None:
    answer = server.request("GET", "/v1/models", headers={"host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_host")
    assert "expected one of 127.0.0.1, [::1], localhost" in answer.json()["error"]["message"]


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:80", "LOCALHOST"])
def test_loopback_host_names_are_accepted_on_loopback(server: LocalServer, host: str) -> None:
    assert server.request("GET", "/v1/models", headers={"host": host}).status_code == 200


def test_any_host_name_is_accepted_elsewhere(predictor: Predictor) -> None:
    with local_server(predictor, host="0.0.0.0") as server:
        assert server.request("GET", "/v1/models", headers={"host": "machine.example"}).status_code == 200


def test_everything_but_health_and_metrics_needs_the_key(predictor: Predictor) -> None:
    with local_server(predictor, api_key="open-sesame") as server:
        for path in ("/metrics", "/metrics/", "/health", "/health/"):
            assert server.request("GET", path).status_code == 200
        assert server.request("GET", "/v1/models/").status_code == 401
    with local_server(predictor, api_key="open-sesame", metrics_need_key=True) as server:
        for headers in ({}, {"authorization": "Bearer open-sesam"}, {"authorization": "open-sesame"}):
            for path in ("/v1/models", "/metrics", "/metrics/", "/nowhere", "/"):
                answer = server.request("GET", path, headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
                assert answer.headers["www-authenticate"] == "Bearer"
        assert server.request("GET", "/health").status_code == 200
        assert server.request("GET", "/v1/models", headers={"authorization": "Bearer open-sesame"}).status_code == 200
        assert "open-sesame" not in repr(server.service.options)


def test_health_is_503_when_the_model_does_not_work(predictor: Predictor) -> None:
    with local_server(predictor) as server:
        assert server.request("GET", "/health").json() == {"status": "ready", "model": "model"}
        server.service.engine.pool.close()
        answer = server.request("GET", "/health")
    assert answer.status_code == 503
    assert "the pool is closed" in answer.json()["error"]["message"]


def test_metrics_count_requests_and_tokens(predictor: Predictor) -> None:
    with local_server(predictor) as server:
        server.complete(prompt="the old market", max_tokens=5, n=2)
        server.refused("/v1/completions", n=0)
        server.request("GET", "/nowhere/at/all")
        text = server.request("GET", "/metrics").text
    for line in (
        'lmtool_requests_total{route="/v1/completions",status="200"} 1.0',
        'lmtool_requests_total{route="/v1/completions",status="400"} 1.0',
        'lmtool_requests_total{route="other",status="404"} 1.0',
        'lmtool_request_seconds_count{route="/v1/completions"} 2.0',
        "lmtool_tokens_generated_total 10.0",
        "lmtool_tokens_read_total 13.0",  # end of sentence, two words; the third and four tokens of each choice
        "lmtool_slots 256.0",
        "lmtool_slots_in_use 0.0",
        "lmtool_pool_requests_total 12.0",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_body_bytes", 0),
        ("max_choices", 0),
        ("session_idle_seconds", 0),
        ("request_seconds", float("nan")),
        ("body_seconds", float("inf")),
        ("port", 65536),
        ("host", " "),
        ("name", ""),
        ("allow_hosts", ("",)),
        ("allow_hosts", ("models.example:8443",)),
        ("cors_origins", ("*",)),
        ("cors_origins", ("null",)),
        ("cors_origins", ("https://app.example/",)),
        ("cors_origins", ("https://app.example", "https://app.example:443")),
    ],
)
def test_options_outside_their_range(field: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"^{field} (is|holds) "):
        ServeOptions(**{field: value})


def test_the_command_has_every_option_and_its_default() -> None:
    context = typer.main.get_command(app).commands["serve"].make_context("serve", [])
    for option in dataclasses.fields(ServeOptions):
        if option.name not in ("name", "api_key"):  # the file's name; a file or the environment
            default = [] if option.default == () else option.default
            assert context.params[option.name] == default, option.name


@pytest.mark.parametrize("key", ["", "a b", "ä", "a\tb", "two\nlines"])
def test_keys_that_cannot_be_sent(key: str) -> None:
    with pytest.raises(RuntimeError, match="the key holds no key that can be sent"):
        checked_key(key, "the key")

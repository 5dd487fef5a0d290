"""`--access-log`: one line a request, without prompts, keys and session ids."""

import logging
import re
from pathlib import Path

import httpx
import pytest
from lmtool.runtime import Predictor
from lmtool.serve.access_log import log_request
from support.servers import ServerProcess, local_server

LINE = re.compile(r"(\w+) (\S+) (\d+) \d+\.\d ms(?: (.*))?")


def test_each_request_is_one_line_without_its_text(predictor: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lmtool.serve")
    with local_server(predictor, access_log=True, api_key="open-sesame") as server:
        key = {"authorization": "Bearer open-sesame"}

        def post(path: str, headers: dict[str, str] | None = None, **fields: object) -> httpx.Response:
            return server.request("POST", path, json=fields, headers={**key, **(headers or {})})

        session = post("/v1/sessions").json()["id"]
        post("/v1/completions", {"x-request-id": "a1 \x1b[31m\tb"}, prompt="the cat", max_tokens=5, n=2)
        post("/v1/completions", prompt="the cat", max_tokens=3, stream=True)
        post("/v1/suggest/", text="the old", session=session)
        post("/v1/completions", prompt="the cat", max_tokens=-1)
        server.request("GET", "/v1/completions?api_key=secret", headers={"x-request-id": "z" * 500})
        for path in (f"/v1/sessions/{session}", f"/v1/sessions/{session}/more", "/v2/no%0Awhere\u202e"):
            server.request("GET", path, headers=key)
    assert [LINE.fullmatch(record.message).groups() for record in caplog.records] == [  # type: ignore[union-attr]
        ("POST", "/v1/sessions", "201", None),
        ("POST", "/v1/completions", "200", "prompt_tokens=2 completion_tokens=10 request_id=a1??[31m?b"),
        ("POST", "/v1/completions", "200", "prompt_tokens=2 completion_tokens=3"),
        ("POST", "/v1/suggest", "200", "prompt_tokens=2 completion_tokens=0"),
        ("POST", "/v1/completions", "400", None),
        ("GET", "/v1/completions", "401", f"request_id={'z' * 128}"),
        ("GET", "/v1/sessions/{id}", "200", None),
        ("GET", "/v1/sessions/{id}", "404", None),
        ("GET", "/v2/no%0Awhere%E2%80%AE", "404", None),
    ]
    for secret in ("cat", "open-sesame", "secret", session):
        assert secret not in caplog.text


def test_without_the_option_nothing_is_logged(predictor: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with local_server(predictor) as server:
        server.complete(prompt="the")
    assert not [record for record in caplog.records if record.name.startswith("lmtool")]


def test_a_long_path_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lmtool.serve")
    log_request("GET", "/" + "a" * 9999, 404, 0.1, None, None)
    assert caplog.messages == [f"GET /{'a' * 127} 404 100.0 ms"]


def test_the_command_logs_to_stderr(artifact_path: Path) -> None:
    with ServerProcess(artifact_path, "--access-log") as running:
        assert httpx.get(f"{running.url}/health/").status_code == 200
        _, stderr = running.stop()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z GET /health 200 \d+\.\d ms\n", stderr)

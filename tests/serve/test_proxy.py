"""Behind a proxy and in web pages: paths with a slash at the end, forwarded headers, other methods, CORS."""

from collections.abc import Iterator

import httpx
import pytest
from lmtool.runtime import Predictor
from lmtool.serve.app import ENDPOINTS
from support.servers import LocalServer, local_server

PAGE = "https://app.example"


@pytest.fixture(scope="module")
def server(predictor: Predictor) -> Iterator[LocalServer]:
    with local_server(predictor) as instance:
        yield instance


@pytest.fixture(scope="module")
def open_to_a_page(predictor: Predictor) -> Iterator[LocalServer]:
    options = {"api_key": "open-sesame", "cors_origins": (PAGE,), "allow_hosts": ("Models.example",)}
    with local_server(predictor, **options) as opened:
        yield opened


def steady(answer: httpx.Response) -> tuple[int, dict[str, object]]:
    """The status and the names in the body; ids and times differ from request to request."""
    is_json = answer.headers["content-type"] == "application/json"
    return answer.status_code, {name: type(value) for name, value in (answer.json() if is_json else {}).items()}


@pytest.mark.parametrize(("method", "path"), ENDPOINTS, ids=str)
def test_a_slash_at_the_end_changes_nothing(server: LocalServer, method: str, path: str) -> None:
    path = path.replace("{id}", "model")
    proxied = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https", "x-forwarded-prefix": "/api"}
    body = {"json": {"prompt": "the", "text": "the", "tokens": [1]}} if method == "POST" else {}
    expected = steady(server.request(method, path, **body))
    for slashes in ("/", "//"):
        answer = server.request(method, path + slashes, headers=proxied, **body)
        assert steady(answer) == expected
        assert "location" not in answer.headers
        assert "evil.example" not in f"{answer.headers}{answer.text}"
    assert 'route="other"' not in server.request("GET", "/metrics").text


def test_head_is_get_without_a_body(server: LocalServer) -> None:
    for path in ("/health", "/health/", "/metrics", "/v1/models", "/v1/models/model", "/openapi.json"):
        answer = server.request("HEAD", path)
        assert (answer.status_code, answer.headers["content-type"]) == (
            200,
            server.request("GET", path).headers["content-type"],
        )


def test_a_models_name_may_hold_a_slash(predictor: Predictor) -> None:
    with local_server(predictor, name="folder/name") as server:
        for path in ("/v1/models/folder/name", "/v1/models/folder%2Fname", "/v1/models/folder/name/"):
            assert server.request("GET", path).json()["id"] == "folder/name"
        assert server.complete(model="folder/name", prompt="the")["model"] == "folder/name"
        assert 'route="other"' not in server.request("GET", "/metrics").text


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/sessions/some", {"GET", "HEAD", "DELETE"}),
        ("OPTIONS", "/v1/completions", {"POST"}),
        ("GET", "/v1/completions/", {"POST"}),
        ("POST", "/health", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_told_all_right_ones(server: LocalServer, method: str, path: str, allowed: set[str]) -> None:
    answer = server.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "no_such_endpoint")
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_forwarded_host_names_do_not_pass_the_host_check(server: LocalServer) -> None:
    for headers in ({"host": "evil.example", "x-forwarded-host": "localhost"}, {"host": "evil.example"}):
        assert server.request("GET", "/v1/models/", headers=headers).status_code == 400


def test_a_proxy_may_pass_on_the_host_names_of_the_options(open_to_a_page: LocalServer) -> None:
    for host, status in (("models.example", 200), ("models.example:8443", 200), ("evil.example", 400)):
        assert open_to_a_page.request("GET", "/health", headers={"host": host}).status_code == status


def preflight(server: LocalServer, origin: str, **headers: str) -> httpx.Response:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-stainless-os"}
    return server.request("OPTIONS", "/v1/completions", headers={"origin": origin, **asked, **headers})


def test_a_page_may_use_the_server_if_its_origin_is_in_the_options(open_to_a_page: LocalServer) -> None:
    asked = preflight(open_to_a_page, PAGE)
    assert asked.status_code == 200  # though it has no key
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert asked.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert "POST" in asked.headers["access-control-allow-methods"]
    for key, status in (("open-sesame", 200), ("wrong", 401)):  # the page can read the error too
        headers = {"origin": PAGE, "authorization": f"Bearer {key}"}
        answer = open_to_a_page.request("POST", "/v1/completions", json={"prompt": "the"}, headers=headers)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE)
        assert "access-control-allow-credentials" not in answer.headers
    assert preflight(open_to_a_page, PAGE, host="evil.example").status_code == 400


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://app.example", "https://app.example.evil"])
def test_other_pages_may_not(open_to_a_page: LocalServer, server: LocalServer, origin: str) -> None:
    for asked in (preflight(open_to_a_page, origin), preflight(server, origin), preflight(server, PAGE)):
        assert asked.status_code in (400, 405)
        assert "access-control-allow-origin" not in asked.headers
    answer = open_to_a_page.request("GET", "/health", headers={"origin": origin})
    assert "access-control-allow-origin" not in answer.headers

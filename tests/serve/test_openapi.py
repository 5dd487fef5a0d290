"""`GET /openapi.json` describes the paths and bodies that the server accepts."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from lmtool.runtime import Predictor
from lmtool.serve.app import ENDPOINTS
from lmtool.serve.openapi import BODIES
from support.servers import LocalServer, local_server


@pytest.fixture(scope="module")
def server(predictor: Predictor) -> Iterator[LocalServer]:
    with local_server(predictor) as instance:
        yield instance


@pytest.fixture(scope="module")
def description(server: LocalServer) -> Any:
    return server.request("GET", "/openapi.json").json()


def test_every_path_is_described(description: Any) -> None:
    described = {(method.upper(), path) for path, methods in description["paths"].items() for method in methods}
    assert described == set(ENDPOINTS)
    for methods in description["paths"].values():
        for operation in methods.values():
            assert operation["summary"].endswith(".")
    names = [operation["operationId"] for methods in description["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)


def test_every_reference_resolves(description: Any) -> None:
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(description)):
        found = description
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


@pytest.mark.parametrize("path", BODIES)
def test_described_bodies_are_those_that_the_server_reads(server: LocalServer, description: Any, path: str) -> None:
    status, error = server.refused(path, **{"not a field": 1})
    assert (status, error["code"]) == (400, "unknown_field")
    body = description["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = description["components"]["schemas"][body.rpartition("/")[2]]
    fields = schema.get("properties", {})
    assert error["message"].partition("expected ")[2] == (f"some of {', '.join(fields)}" if fields else "none")
    assert schema["additionalProperties"] is False
    assert all(field.keys() & {"type", "anyOf", "$ref", "description"} for field in fields.values())

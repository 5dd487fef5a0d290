"""The OpenAPI description of the server's paths and request bodies."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .schemas import CompletionRequest, DetokenizeRequest, EmptyRequest, SuggestRequest, TokenizeRequest

BODIES: dict[str, type[BaseModel]] = {
    "/v1/completions": CompletionRequest,
    "/v1/suggest": SuggestRequest,
    "/v1/sessions": EmptyRequest,
    "/v1/models/reload": EmptyRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
}
"""The body of each path that is posted to."""

_SCHEMAS = "#/components/schemas/"
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}


def openapi(endpoints: Mapping[tuple[str, str], Callable[..., Any]]) -> dict[str, Any]:
    """The description as JSON, of OpenAPI 3.1. Limits that are options of the server are not in it.

    Args:
        endpoints: Method and path, as `/v1/models/{id}` -> function, whose docstring describes it.
    """
    _, definitions = models_json_schema(
        [(body, "validation") for body in dict.fromkeys(BODIES.values())], ref_template=_SCHEMAS + "{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), endpoint in endpoints.items():
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "lmtool serve", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": {**definitions["$defs"], "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def _operation(method: str, path: str, endpoint: Callable[..., Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.__name__,
        "summary": inspect.getdoc(endpoint),
        "responses": {
            "2XX": {"description": "The answer"},
            "default": {"description": "Refused or failed", **_json_content("Error")},
        },
    }
    if "{id}" in path:
        operation["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    if method == "POST":
        operation["requestBody"] = {"required": True, **_json_content(BODIES[path].__name__)}
    return operation


def _json_content(schema: str) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": _SCHEMAS + schema}}}}

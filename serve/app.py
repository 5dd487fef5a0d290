"""The application: which path is answered by what, and what is refused before."""

import functools
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .completions.endpoint import complete
from .endpoints import (
    create_session,
    delete_session,
    detokenize,
    health,
    list_models,
    metrics,
    show_model,
    show_session,
    suggest,
    tokenize,
    tokenizer_info,
)
from .errors import ApiError, api_error
from .middleware import Counting, HostGuard, KeyGuard
from .options import ServeOptions
from .service import Service, json_response

_Endpoint = Callable[[Service, Request], Awaitable[Response]]

_ENDPOINTS: dict[tuple[str, str], _Endpoint] = {
    ("POST", "/v1/completions"): complete,
    ("POST", "/v1/suggest"): suggest,
    ("POST", "/v1/sessions"): create_session,
    ("GET", "/v1/sessions/{id}"): show_session,
    ("DELETE", "/v1/sessions/{id}"): delete_session,
    ("GET", "/v1/models"): list_models,
    ("GET", "/v1/models/{id}"): show_model,
    ("GET", "/health"): health,
    ("GET", "/metrics"): metrics,
    ("GET", "/tokenizer_info"): tokenizer_info,
    ("POST", "/tokenize"): tokenize,
    ("POST", "/detokenize"): detokenize,
}


def create_app(service: Service) -> Starlette:
    """The ASGI application of a service; who makes the service closes its pool.

    Bound to loopback it answers only to the names of loopback: a web page cannot reach it under a name of its own.
    """
    routes = frozenset(path for _, path in _ENDPOINTS)
    guards = [Middleware(Counting, metrics=service.metrics, routes=routes)]
    if service.options.on_loopback:
        guards.append(Middleware(HostGuard, names=_own_names(service.options)))
    if service.options.api_key is not None:
        guards.append(Middleware(KeyGuard, key=service.options.api_key))
    return Starlette(
        routes=[
            Route(path, functools.partial(_answer, service, endpoint), methods=[method])
            for (method, path), endpoint in _ENDPOINTS.items()
        ],
        middleware=guards,
        exception_handlers={HTTPException: _explain_http, Exception: _explain},
    )


async def _answer(service: Service, endpoint: _Endpoint, request: Request) -> Response:
    try:
        return await endpoint(service, request)
    except Exception as error:
        told = api_error(error)
        if told.status == 500:
            raise
        return json_response(told.to_json(), told.status, told.headers)


async def _explain(_: Request, error: Exception) -> Response:
    """What a client is told where the fault is ours; the server's log has the traceback."""
    told = api_error(error)
    return json_response(told.to_json(), told.status)


async def _explain_http(request: Request, error: Exception) -> Response:
    """A path or method that is not there."""
    assert isinstance(error, HTTPException)
    paths = ", ".join(sorted({path for _, path in _ENDPOINTS}))
    messages = {
        404: f"there is nothing at {request.url.path[:100]!r}, expected one of {paths}",
        405: f"{request.method[:20]!r} does not go with {request.url.path[:100]!r}",
    }
    told = ApiError(error.status_code, "no_such_endpoint", messages.get(error.status_code, error.detail))
    return json_response(told.to_json(), told.status, error.headers)


def _own_names(options: ServeOptions) -> frozenset[str]:
    return frozenset({"localhost", "127.0.0.1", "[::1]", options.host.lower()})

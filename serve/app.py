"""The ASGI application: routes, middleware and error handlers."""

import functools
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import endpoints
from .completions.endpoint import complete
from .errors import ApiError, api_error
from .middleware import ApiKeyMiddleware, HostMiddleware, MetricsMiddleware
from .responses import error_response
from .service import Service

_Endpoint = Callable[[Service, Request], Awaitable[Response]]

_ENDPOINTS: dict[tuple[str, str], _Endpoint] = {
    ("POST", "/v1/completions"): complete,
    ("POST", "/v1/suggest"): endpoints.suggest,
    ("POST", "/v1/sessions"): endpoints.create_session,
    ("GET", "/v1/sessions/{id}"): endpoints.show_session,
    ("DELETE", "/v1/sessions/{id}"): endpoints.delete_session,
    ("GET", "/v1/models"): endpoints.list_models,
    ("GET", "/v1/models/{id}"): endpoints.show_model,
    ("GET", "/health"): endpoints.health,
    ("GET", "/metrics"): endpoints.metrics,
    ("GET", "/tokenizer_info"): endpoints.tokenizer_info,
    ("POST", "/tokenize"): endpoints.tokenize,
    ("POST", "/detokenize"): endpoints.detokenize,
}
_PATHS = frozenset(path for _, path in _ENDPOINTS)


def create_app(service: Service) -> Starlette:
    """The ASGI application of a service. The caller closes the service's pool.

    On loopback it accepts only loopback host names, so that a web page cannot reach it through a domain that resolves
    to this machine.
    """
    options = service.options
    middleware = [Middleware(MetricsMiddleware, metrics=service.metrics, routes=_PATHS)]
    if options.on_loopback:
        names = frozenset({"localhost", "127.0.0.1", "[::1]", options.host.lower()})
        middleware.append(Middleware(HostMiddleware, names=names))
    if options.api_key is not None:
        middleware.append(Middleware(ApiKeyMiddleware, key=options.api_key))
    return Starlette(
        routes=[
            Route(path, functools.partial(_respond, service, endpoint), methods=[method])
            for (method, path), endpoint in _ENDPOINTS.items()
        ],
        middleware=middleware,
        exception_handlers={HTTPException: _handle_http_exception, Exception: _handle_exception},
    )


async def _respond(service: Service, endpoint: _Endpoint, request: Request) -> Response:
    try:
        return await endpoint(service, request)
    except Exception as exception:
        error = api_error(exception)
        if error.status == 500:
            raise
        return error_response(error)


async def _handle_exception(_: Request, exception: Exception) -> Response:
    """The response to a fault of the server; its log has the traceback."""
    return error_response(api_error(exception))


async def _handle_http_exception(request: Request, exception: Exception) -> Response:
    """The response to an unknown path or method."""
    assert isinstance(exception, HTTPException)
    messages = {
        404: f"there is nothing at {request.url.path[:100]!r}, expected one of {', '.join(sorted(_PATHS))}",
        405: f"{request.method[:20]!r} does not go with {request.url.path[:100]!r}",
    }
    status = exception.status_code
    error = ApiError(status, "no_such_endpoint", messages.get(status, exception.detail))
    return error_response(error, exception.headers)

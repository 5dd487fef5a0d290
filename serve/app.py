"""The ASGI application: routes, middleware and error handlers."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from . import endpoints
from .completions.endpoint import complete
from .errors import ApiError, api_error
from .middleware import ApiKeyMiddleware, HostMiddleware, MetricsMiddleware, ModelMiddleware, PathMiddleware
from .openapi import openapi
from .responses import error_response, json_response
from .service import Service

_Endpoint = Callable[[Service, Request], Awaitable[Response]]


async def show_openapi(_: Service, __: Request) -> Response:
    """The paths and request bodies of this server, as OpenAPI describes them."""
    return json_response(openapi(ENDPOINTS))


ENDPOINTS: dict[tuple[str, str], _Endpoint] = {
    ("POST", "/v1/completions"): complete,
    ("POST", "/v1/suggest"): endpoints.suggest,
    ("POST", "/v1/sessions"): endpoints.create_session,
    ("GET", "/v1/sessions/{id}"): endpoints.show_session,
    ("DELETE", "/v1/sessions/{id}"): endpoints.delete_session,
    ("GET", "/v1/models"): endpoints.list_models,
    ("POST", "/v1/models/reload"): endpoints.reload_model,
    ("GET", "/v1/models/{id}"): endpoints.show_model,
    ("GET", "/health"): endpoints.health,
    ("GET", "/metrics"): endpoints.metrics,
    ("GET", "/tokenizer_info"): endpoints.tokenizer_info,
    ("POST", "/tokenize"): endpoints.tokenize,
    ("POST", "/detokenize"): endpoints.detokenize,
    ("GET", "/openapi.json"): show_openapi,
}
_PATHS = frozenset(path for _, path in ENDPOINTS)
_CORS_METHODS = ("GET", "POST", "DELETE")


def create_app(service: Service) -> Starlette:
    """The ASGI application of a service. The caller closes the service.

    On loopback it accepts only loopback host names and those of the options, so that a web page cannot reach it through
    a domain that resolves to this machine. `X-Forwarded-*` headers have no effect.
    """
    return Starlette(
        routes=list(_routes(service)),
        middleware=list(_middleware(service)),
        exception_handlers={HTTPException: _handle_http_exception, Exception: _handle_exception},
    )


def _routes(service: Service) -> Iterator[Route]:
    """A route for each path. An id may hold slashes: a model may be called `folder/name`."""
    paths: dict[str, dict[str, _Endpoint]] = {}
    for (method, path), endpoint in ENDPOINTS.items():
        paths.setdefault(path.replace("{id}", "{id:path}"), {})[method] = endpoint
    for path, by_method in paths.items():
        yield Route(path, _Resource(service, by_method), methods=[*by_method])


def _middleware(service: Service) -> Iterator[Middleware]:
    """The middleware, outermost first. Browsers send no key when they ask whether a page may use the server."""
    options = service.options
    yield Middleware(PathMiddleware)
    yield Middleware(MetricsMiddleware, metrics=service.metrics, routes=_PATHS, with_log=options.access_log)
    if options.on_loopback:
        names = {"localhost", "127.0.0.1", "[::1]", options.host.lower(), *map(str.lower, options.allow_hosts)}
        yield Middleware(HostMiddleware, names=frozenset(names))
    if options.cors_origins:
        yield Middleware(
            CORSMiddleware,
            allow_origins=options.cors_origins,
            allow_methods=_CORS_METHODS,
            allow_headers=("*",),
            expose_headers=("retry-after",),
        )
    if options.api_key is not None:
        open_paths = {"/health"} if options.metrics_need_key else {"/health", "/metrics"}
        yield Middleware(ApiKeyMiddleware, key=options.api_key, open_paths=frozenset(open_paths))
    yield Middleware(ModelMiddleware, engines=service.engines)


@final
class _Resource:
    """The ASGI application of one path."""

    def __init__(self, service: Service, by_method: Mapping[str, _Endpoint]) -> None:
        self._service = service
        self._by_method = by_method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        endpoint = self._by_method["GET" if scope["method"] == "HEAD" else scope["method"]]
        try:
            response = await endpoint(self._service, Request(scope, receive, send))
            await response(scope, receive, send)
        except Exception as exception:
            error = api_error(exception)
            if error.status == 500:
                raise
            await error_response(error)(scope, receive, send)


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

"""ASGI middleware: paths, metrics and an orderly stop, accepted host names, the API key, the model of a request."""

import asyncio
import hmac
import re
import time
from typing import final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access_log import log_request
from .engines import Engines
from .errors import ApiError, stopping
from .metrics import Metrics
from .responses import error_response

_OTHER = "other"
_MAX_PATH_CHARS = 128
_PORT = re.compile(r":\d*\Z", re.ASCII)


@final
class PathMiddleware:
    """Takes a path with slashes at its end as the same path without; a redirect would name a scheme and a host."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["path"].endswith("/"):
            scope["path"] = scope["path"].rstrip("/") or "/"
        await self._app(scope, receive, send)


@final
class MetricsMiddleware:
    """Counts, times and logs requests, and answers those that a stopping server cuts off."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str], with_log: bool) -> None:
        """Paths outside `routes` are counted as one route."""
        self._app = app
        self._metrics = metrics
        self._routes = routes
        self._with_log = with_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.perf_counter(), 0
        scope.setdefault("state", {})

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note_status)
        except asyncio.CancelledError:
            if not status:
                await error_response(stopping("; try again later"))(scope, receive, send_and_note_status)
        except BaseException:
            status = status or 500
            raise
        finally:
            seconds, route = time.perf_counter() - began, self._route(scope["path"])
            self._metrics.count(route or _OTHER, status, seconds)
            if self._with_log:
                tokens, request_id = scope["state"].get("tokens"), Headers(scope=scope).get("x-request-id")
                log_request(scope["method"], route or scope["path"], status, seconds, tokens, request_id)
        return None

    def _route(self, path: str) -> str | None:
        """The route of a path, also of one below it; so the id of a session is nowhere shown."""
        if path in self._routes:
            return path
        parent = path[:_MAX_PATH_CHARS]
        while parent:
            parent = parent.rpartition("/")[0]
            if f"{parent}/{{id}}" in self._routes:
                return f"{parent}/{{id}}"
        return None


@final
class HostMiddleware:
    """Accepts only requests for one of these host names, with any port."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        """The names are in lower case."""
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        host = Headers(scope=scope).get("host", "")
        if _PORT.sub("", host.lower()) in self._names:
            return await self._app(scope, receive, send)
        expected = ", ".join(sorted(self._names))
        error = ApiError(400, "invalid_host", f"the host is {host[:100]!r}, expected one of {expected}")
        return await error_response(error)(scope, receive, send)


@final
class ApiKeyMiddleware:
    """Accepts only requests with the key as bearer token; `open_paths` need none."""

    def __init__(self, app: ASGIApp, key: str, open_paths: frozenset[str]) -> None:
        self._app = app
        self._open_paths = open_paths
        self._expected = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        authorization = Headers(scope=scope).get("authorization", "").encode("latin-1")
        if scope["path"] in self._open_paths or hmac.compare_digest(authorization, self._expected):
            return await self._app(scope, receive, send)
        error = ApiError(
            401, "invalid_api_key", "the key is missing or wrong, expected the header: Authorization: Bearer KEY"
        )
        return await error_response(error)(scope, receive, send)


@final
class ModelMiddleware:
    """Gives each request the engine that is current when its headers arrive, as `request.state.engine`."""

    def __init__(self, app: ASGIApp, engines: Engines) -> None:
        self._app = app
        self._engines = engines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        with self._engines.lease() as engine:
            state = scope.setdefault("state", {})
            state["engine"] = engine
            try:
                await self._app(scope, receive, send)
            finally:
                del state["engine"]  # an idle connection keeps the scope of its last request

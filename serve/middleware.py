"""ASGI middleware: paths with a slash at the end, metrics and an orderly stop, accepted host names, the API key."""

import asyncio
import hmac
import re
import time
from typing import final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError, stopping
from .metrics import Metrics
from .responses import error_response

_OTHER = "other"
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
    """Counts and times requests, and answers those that a stopping server cuts off."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        """Paths outside `routes` are counted as one route."""
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.perf_counter(), 0

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
            route = self._route(scope["path"])
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)
        return None

    def _route(self, path: str) -> str:
        if path in self._routes:
            return path
        folder = f"{path.rpartition('/')[0]}/{{id}}"
        return folder if folder in self._routes else _OTHER


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

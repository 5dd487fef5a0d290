"""What stands before every endpoint: counting, the host's name, the key, and an end in order when the server stops."""

import asyncio
import hmac
import re
import time
from typing import final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError
from .metrics import Metrics
from .service import json_response

_OPEN_PATHS = ("/health",)
_OTHER = "other"
_PORT = re.compile(r":\d*\Z", re.ASCII)


@final
class KeyGuard:
    """Lets requests through that bring the key as a bearer token; `/health` needs none."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        """Guard `app`."""
        self._app = app
        self._expected = _bearer(key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        given = Headers(scope=scope).get("authorization", "").encode("latin-1")
        if scope["path"] in _OPEN_PATHS or hmac.compare_digest(given, self._expected):
            return await self._app(scope, receive, send)
        error = ApiError(
            401, "invalid_api_key", "the key is missing or wrong, expected the header: Authorization: Bearer KEY"
        )
        return await json_response(error.to_json(), error.status, error.headers)(scope, receive, send)


@final
class HostGuard:
    """Lets requests through that ask for one of the server's own names, with any port."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        """Guard `app`; the names are in lower case."""
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        host = Headers(scope=scope).get("host", "")
        if _PORT.sub("", host.lower()) in self._names:
            return await self._app(scope, receive, send)
        error = ApiError(
            400, "invalid_host", f"the host is {host[:100]!r}, expected one of {', '.join(sorted(self._names))}"
        )
        return await json_response(error.to_json(), error.status, error.headers)(scope, receive, send)


@final
class Counting:
    """Counts and times the requests of `app`, and answers those that a stopping server cuts off."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        """Count by these routes; the others are one, whatever clients ask for."""
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.perf_counter(), 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        except asyncio.CancelledError:
            if not status:
                error = ApiError(503, "stopping", "the server is stopping; try again later")
                await json_response(error.to_json(), error.status, error.headers)(scope, receive, note)
        except BaseException:
            status = status or 500
            raise
        finally:
            route = self._route(scope)
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)
        return None

    def _route(self, scope: Scope) -> str:
        path: str = scope["path"]
        if path in self._routes:
            return path
        folder = f"{path.rpartition('/')[0]}/{{id}}"
        return folder if folder in self._routes else _OTHER


def _bearer(key: str) -> bytes:
    return f"Bearer {key}".encode()

"""HTTP responses: JSON, and server-sent events as OpenAI's clients read them; a client must read them in time."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any, NamedTuple, final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .concurrency import while_connected
from .errors import ApiError, api_error, stopping
from .options import GRACE_SECONDS

_ITEMS_PER_CALL = 256
_PIECE_BYTES = 65_536
compact_json = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
"""Encode a small value as ASCII JSON; ValueError for NaN and infinity."""
_DONE = b"data: [DONE]\n\n"


def json_text(value: Any) -> str:
    """Encode a large value as compact ASCII JSON; unpaired surrogates are escaped too.

    Long lists are encoded in parts, so that other threads get their turn.

    Raises:
        ValueError: The value holds NaN or infinity.
    """
    if isinstance(value, dict) and _is_nested(value):
        return "{" + ",".join(f"{compact_json(name)}:{json_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list) and value:
        return "[" + ",".join(_encode_items(value)) + "]"
    return compact_json(value)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response with a small JSON body."""
    return Response(compact_json(value), status, headers, media_type="application/json")


def error_response(error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    """The response to a request that is refused or has failed; by default with the error's own headers."""
    return json_response(error.to_json(), error.status, error.headers if headers is None else headers)


def event(value: Any) -> bytes:
    """A server-sent event with a JSON value."""
    return f"data: {compact_json(value)}\n\n".encode()


@final
class LargeJsonResponse(Response):
    """A JSON body that may be large; the connection is aborted if the client does not read it by the deadline."""

    media_type = "application/json"

    def __init__(self, body: bytes, deadline: float) -> None:
        """`deadline` is in the event loop's seconds."""
        super().__init__(body)
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with asyncio.timeout_at(self._deadline + GRACE_SECONDS):
                await _send_pieces(send, bytes(self.body), is_last=True)
        except TimeoutError:
            await _abort(scope)


@final
class Events(NamedTuple):
    """Events that are sent together, and whether they are the last."""

    data: bytes
    are_last: bool = False


@final
class EventStream(Response):
    """Server-sent events, `[DONE]` with the last of them; an error while they are made is the last event.

    The response begins once the first of them are there; an error before that is raised. The source is closed when the
    response ends, also if the client disconnects, does not read in time, or the server stops.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[Events, None], deadline: float) -> None:
        """Send `events` until `deadline` in the event loop's seconds."""
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._deadline = deadline
        self._has_begun = self._is_open = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        async with contextlib.aclosing(self._events):
            try:
                await while_connected(receive, self._send_all(send), self._deadline + GRACE_SECONDS)
            except (ApiError, TimeoutError) as error:
                if not self._has_begun:
                    raise
                if isinstance(error, TimeoutError):  # else the client has disconnected
                    await _abort(scope)
            except asyncio.CancelledError:
                if self._is_open:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout_at(self._deadline + GRACE_SECONDS):
                            await self._send_last(send, event(stopping().to_json()))
                raise

    async def _send_all(self, send: Send) -> None:
        events = await anext(self._events)
        self._has_begun = self._is_open = True
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while not events.are_last:
            await _send_pieces(send, events.data)
            try:
                events = await anext(self._events)
            except Exception as exception:
                error = api_error(exception)
                if error.status == 500:
                    raise
                return await self._send_last(send, event(error.to_json()))
        return await self._send_last(send, events.data + _DONE)

    async def _send_last(self, send: Send, data: bytes) -> None:
        self._is_open = False
        await _send_pieces(send, data, is_last=True)


def _encode_items(values: list[Any]) -> Iterator[str]:
    if any(map(_is_nested, values)):
        yield from map(json_text, values)
        return
    for start in range(0, len(values), _ITEMS_PER_CALL):
        yield compact_json(values[start : start + _ITEMS_PER_CALL])[1:-1]


def _is_nested(value: Any) -> bool:
    """Whether the value is an object that holds lists or objects."""
    return isinstance(value, dict) and any(isinstance(item, (dict, list)) for item in value.values())


async def _send_pieces(send: Send, data: bytes, *, is_last: bool = False) -> None:
    """Send part of a body. The event loop runs between two pieces and can see that the client has disconnected."""
    for start in range(0, len(data), _PIECE_BYTES):
        if start:
            await asyncio.sleep(0)
        more = not is_last or start + _PIECE_BYTES < len(data)
        await send({"type": "http.response.body", "body": data[start : start + _PIECE_BYTES], "more_body": more})


async def _abort(scope: Scope) -> None:
    """Abort the connection of a client that does not read its response."""
    abort = scope.get("state", {}).get("abort")
    if abort is not None:
        abort()
        await asyncio.sleep(0)  # lets the connection see that it is lost

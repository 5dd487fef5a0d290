"""Server-sent events: an answer that is sent while it is written, as OpenAI's clients read it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any, final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .concurrency import while_connected
from .errors import ApiError, api_error
from .options import GRACE_SECONDS

_TOGETHER = 256
"""Items of a list that are encoded in one call."""


def json_text(value: Any) -> str:
    """The JSON of a value, without spaces; text outside ASCII is escaped, lonely surrogates too.

    Raises:
        ValueError: It holds NaN or infinity.
    """
    if isinstance(value, dict) and _is_deep(value):
        return "{" + ",".join(f"{_encoded(name)}:{json_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list) and value:
        return "[" + ",".join(_items(value)) + "]"
    return _encoded(value)


def _items(values: list[Any]) -> Iterator[str]:
    if any(map(_is_deep, values)):
        yield from map(json_text, values)
        return
    for start in range(0, len(values), _TOGETHER):
        yield _encoded(values[start : start + _TOGETHER])[1:-1]


def _is_deep(value: Any) -> bool:
    """Whether it is an object with lists or objects in it."""
    return isinstance(value, dict) and any(isinstance(item, (dict, list)) for item in value.values())


def _encoded(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


_PIECE = 65_536


async def send_body(send: Send, data: bytes, deadline: float) -> None:
    """Send a part of a body, which goes on.

    Between two pieces the event loop has a turn: it sees that the client is gone.

    Args:
        send: Takes the connection's messages.
        data: The part.
        deadline: When the request must be done, in the event loop's seconds.

    Raises:
        TimeoutError: The client does not take it in time.
    """
    for start in range(0, len(data), _PIECE):
        async with asyncio.timeout_at(deadline + GRACE_SECONDS):
            await send({"type": "http.response.body", "body": data[start : start + _PIECE], "more_body": True})
            await asyncio.sleep(0)


async def drop(scope: Scope) -> None:
    """Break off a connection whose client does not take its answer: there is nobody to tell."""
    abort = scope.get("state", {}).get("abort")
    if abort is not None:
        abort()
        await asyncio.sleep(0)  # then the connection knows that it is lost


@final
class PiecewiseResponse(Response):
    """An answer of JSON that may be large; it is broken off where the client does not take it in time."""

    media_type = "application/json"

    def __init__(self, body: bytes, deadline: float) -> None:
        """Send this body until `deadline`, in the event loop's seconds."""
        super().__init__(body)
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            await send_body(send, bytes(self.body), self._deadline)
        except TimeoutError:
            return await drop(scope)
        return await send({"type": "http.response.body", "body": b"", "more_body": False})


_DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    """One event whose data are a JSON value."""
    return f"data: {json_text(value)}\n\n".encode()


@final
class EventResponse(Response):
    """Sends events as they come, then `[DONE]`; an error on the way is the last event.

    Whatever happens, its source is closed when the response ends: when the client goes away, when an answer is not
    taken in time, and when the server stops.
    """

    media_type = "text/event-stream"

    def __init__(self, first: bytes, events: AsyncGenerator[bytes, None], deadline: float) -> None:
        """Send these events, of which `first` has come, until `deadline`, in the event loop's seconds."""
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._first = first
        self._events = events
        self._deadline = deadline
        self._is_open = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        async with contextlib.aclosing(self._events):
            try:
                await while_connected(receive, self._send_all(send))
            except ApiError:
                return  # the client is gone, and there is nobody to tell
            except TimeoutError:
                await drop(scope)
            except asyncio.CancelledError:
                if self._is_open:
                    with contextlib.suppress(TimeoutError):
                        await self._send_last(
                            send, event(ApiError(503, "stopping", "the server is stopping").to_json())
                        )
                raise

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        self._is_open = True
        await send_body(send, self._first, self._deadline)
        last = _DONE
        while True:
            try:
                data = await anext(self._events)
            except StopAsyncIteration:
                break
            except Exception as error:
                told = api_error(error)
                if told.status == 500:
                    raise
                last = event(told.to_json())
                break
            await send_body(send, data, self._deadline)
        await self._send_last(send, last)

    async def _send_last(self, send: Send, data: bytes) -> None:
        self._is_open = False
        await send_body(send, data, self._deadline)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

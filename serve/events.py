"""Server-sent events: an answer that is sent while it is written, as OpenAI's clients read it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .encoding import json_text
from .errors import ApiError, api_error
from .sending import drop, send_body
from .waiting import while_connected

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

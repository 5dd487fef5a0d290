"""Sending an answer in pieces, so that a client that does not read holds up no more than one of them."""

import asyncio
from typing import final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_PIECE = 65_536
_GRACE_SECONDS = 1.0
"""How long after its deadline an answer may still be on its way to a client that reads slowly."""


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
        async with asyncio.timeout_at(deadline + _GRACE_SECONDS):
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

"""uvicorn's HTTP/1.1 protocol with time limits for slow and idle connections."""

import asyncio
import math
from operator import itemgetter
from typing import Any, cast, final

import h11
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle


@final
class _Writes:
    """The transport of one response: what a message writes is one system call, and the head goes with the first part.

    uvicorn writes the head, each part of a body and its end apart; each write wakes the client.
    """

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        self._transport = transport
        self._cycle = cycle
        self._send = cycle.send
        self._held = b""
        self.is_closing = transport.is_closing

    async def send(self, message: Any) -> None:
        """Send an ASGI message."""
        await self._send(message)
        if message["type"] == "http.response.body":
            self.flush()

    def write(self, data: bytes) -> None:
        """Hold data of the response; `100 Continue` comes before it."""
        self._held += data
        if not self._cycle.response_started:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def close(self) -> None:
        """Write what is held, and close the connection."""
        self.flush()
        self._transport.close()


@final
class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, with time limits where it has none.

    - An idle connection is closed after `keep_alive_seconds`; if `max_connections` are there and another one comes,
      the one that has been idle longest, and for `client_seconds` at least.
    - Headers must arrive within `client_seconds` of the request's first byte, or of a new connection's start.
    - A client must read what was sent within `client_seconds`, or half of `shutdown_seconds` once the server stops;
      else the connection is aborted. uvicorn would keep it, and the rest of the response in memory, without limit.
    - While a response is made, the connection reads on until 64 KiB of later requests have arrived, and so sees that
      the client disconnects. With more than 64 KiB it reads nothing, and a slot stays taken until the response is
      written, at most for `request_seconds`.
    """

    def __init__(self, *args: Any, client_seconds: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._client_seconds = client_seconds
        self._headers_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._write_seconds: float = self._client_seconds
        self._idle_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request. With a limit of 0, writing is paused while any byte waits to be read."""
        transport.set_write_buffer_limits(0)
        self.app_state = {**self.app_state, "abort": transport.abort}
        super().connection_made(transport)
        self._start_headers_timer()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._close_longest_idle()

    def data_received(self, data: bytes) -> None:
        """Receive bytes; the headers timer runs until they complete a request's headers."""
        self._idle_since = None
        super().data_received(data)
        if self._is_responding:
            self._stop_headers_timer()
            if self.conn.their_state is h11.DONE and len(self.conn.trailing_data[0]) <= HIGH_WATER_LIMIT:
                self.flow.resume_reading()
        elif self._headers_timer is None:
            self._start_headers_timer()

    def handle_events(self) -> None:
        """Parse what has arrived. A request that gives its length in two ways is the last one of its connection."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            writes = _Writes(self.transport, self.cycle)
            self.cycle.transport = cast("asyncio.Transport", writes)
            self.cycle.send = writes.send  # type: ignore[method-assign]
        if self._is_responding and {b"content-length", b"transfer-encoding"} <= {name for name, _ in self.headers}:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that breaks the protocol; in its body, it may do so when its response has begun."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Wait for the next request, of which a part may have arrived."""
        cast("_Writes", self.cycle.transport).flush()  # before the response to the next request, which may have begun
        self.cycle.transport = self.transport  # else the two would hold each other
        del self.cycle.send
        super().on_response_complete()
        if self._is_responding or self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:
            self._start_headers_timer()
        else:
            self._idle_since = self.loop.time()

    def pause_writing(self) -> None:
        """Limit the time until the client has read what was sent."""
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        """The client has read everything."""
        self._stop_write_timer()
        super().resume_writing()

    def shutdown(self) -> None:
        """The server stops: clients have less time to read."""
        super().shutdown()
        self._write_seconds = min(self._write_seconds, (self.config.timeout_graceful_shutdown or 0) / 2)
        if self._write_timer is not None:
            self._stop_write_timer()
            self._start_write_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stop_headers_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    @property
    def _is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _close_longest_idle(self) -> None:
        """Make room for a new connection."""
        latest = self.loop.time() - self._client_seconds
        others = cast("set[BoundedProtocol]", self.connections)
        idle = [(since, other) for other in others if (since := other._idle_since) is not None]
        since, longest = min(idle, key=itemgetter(0), default=(math.inf, self))
        if since <= latest:
            longest._idle_since = None
            longest.timeout_keep_alive_handler()
            self.connections.discard(longest)  # uvloop tells it later, maybe after the new connection's request

    def _start_headers_timer(self) -> None:
        self._headers_timer = self.loop.call_later(self._client_seconds, self._on_headers_timeout)

    def _stop_headers_timer(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _on_headers_timeout(self) -> None:
        self._headers_timer = None
        if not self._is_responding:
            self.timeout_keep_alive_handler()

    def _start_write_timer(self) -> None:
        self._write_timer = self.loop.call_later(self._write_seconds, self.transport.abort)

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

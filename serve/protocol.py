"""uvicorn's HTTP/1.1 protocol with limits for slow and idle connections, and for long headers."""

import asyncio
import math
from operator import itemgetter
from typing import Any, cast, final

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


@final
class _HeldHead:
    """The transport of one response: its head is sent with the first part of its body, in one system call."""

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        self._transport = transport
        self._cycle = cycle
        self._held: bytes | None = None
        self._is_sent = False
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._is_sent or not self._cycle.response_started:
            self._transport.write(data)
        elif self._held is None:
            self._held = data
        else:
            self._held += data
            self.flush()

    def flush(self) -> None:
        if self._held is not None and not self._is_sent:
            self._is_sent = True
            self._transport.write(self._held)

    def close(self) -> None:
        self.flush()
        self._transport.close()


@final
class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with limits where it has none.

    - An idle connection is closed after `keep_alive_seconds`; if `max_connections` are there and another one comes,
      the one that has been idle longest, and for `client_seconds` at least.
    - Headers must arrive within `client_seconds` of the request's first byte, or of a new connection's start, and have
      `max_header_bytes` at most.
    - A client must read what was sent within `client_seconds`, or half of `shutdown_seconds` once the server stops;
      else the connection is aborted. uvicorn would keep it, and the rest of the response in memory, without limit.
    - While a response is made, the connection reads on until 64 KiB of later requests have arrived, and so sees that
      the client disconnects. With more than 64 KiB it reads nothing, and a slot stays taken until the response is
      written, at most for `request_seconds`.
    """

    def __init__(self, *args: Any, client_seconds: int, max_header_bytes: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._client_seconds = client_seconds
        self._max_header_bytes = max_header_bytes
        self._header_bytes = 0
        self._in_headers = False
        self._unparsed_bytes = 0  # of headers that have not all arrived: the parser tells only of whole ones
        self._later_bytes = 0  # of requests that came while a response is made
        self._running: RequestResponseCycle | None = None
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
        was_in_headers, was_responding = self._in_headers, self._is_responding
        super().data_received(data)
        if self.transport.is_closing():
            return None
        if self._in_headers and not was_responding:
            self._unparsed_bytes = len(data) + (self._unparsed_bytes if was_in_headers else 0)
            if self._unparsed_bytes > self._max_header_bytes:
                return self.send_400_response("The request's headers are too long.")
        if self._is_responding:
            self._stop_headers_timer()
            self._later_bytes = self._later_bytes + len(data) if was_responding else 0
            if self._later_bytes and self._later_bytes <= HIGH_WATER_LIMIT:
                self.flow.resume_reading()
        elif self._headers_timer is None:
            self._start_headers_timer()
        return None

    def on_message_begin(self) -> None:
        """Begin a request; the parser calls this and the next three."""
        super().on_message_begin()
        self._header_bytes, self._in_headers = 0, True

    def on_url(self, url: bytes) -> None:
        """Receive a part of the path."""
        super().on_url(url)
        self._count_header_bytes(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receive a header."""
        super().on_header(name, value)
        self._count_header_bytes(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """Begin the response, or queue the request."""
        self._in_headers = False
        super().on_headers_complete()
        self.cycle.transport = cast("asyncio.Transport", _HeldHead(self.transport, self.cycle))
        if not self.pipeline:
            self._running = self.cycle

    def on_response_complete(self) -> None:
        """Wait for the next request, of which a part may have arrived."""
        if self._running is not None:
            cast("_HeldHead", self._running.transport).flush()
        following = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        self._later_bytes = 0
        self._running = following
        if self._is_responding or self.transport.is_closing():
            return
        if self._in_headers:
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
        """The server stops: clients have less time to read, and requests that wait behind another are dropped."""
        self.pipeline.clear()
        super().shutdown()
        if self._running is not None:
            self._running.keep_alive = False
        self._write_seconds = min(self._write_seconds, (self.config.timeout_graceful_shutdown or 0) / 2)
        if self._write_timer is not None:
            self._stop_write_timer()
            self._start_write_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers; tell the request that runs, which uvicorn does only if no other waits behind it."""
        self._stop_headers_timer()
        self._stop_write_timer()
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    @property
    def _is_responding(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _count_header_bytes(self, count: int) -> None:
        """Count the bytes of the headers; an error in a callback of the parser is answered with 400."""
        self._header_bytes += count
        if self._header_bytes > self._max_header_bytes:
            raise ValueError("the request's headers are too long")

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

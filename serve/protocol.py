"""HTTP/1.1 with bounded patience: a connection that does not send its request, or does not read, is closed."""

import asyncio
from typing import Any, final

import h11
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol


@final
class PatientProtocol(H11Protocol):
    """uvicorn's protocol, with an end to what that waits for without one.

    - A request's headers: the time that a client has for them, from its first byte or from the end of the last answer
      on, is that of an idle connection.
    - A client that does not read: what was sent must be taken within the time of an idle connection, or half of
      `shutdown_seconds` where the server stops meanwhile; else the connection is broken off. uvicorn would wait for it
      after an answer's end too, with all that is left of the answer in memory.
    - A client that goes away after it has sent another request ahead: reading goes on while no more than 64 KiB have
      come ahead, so that its end is seen. With more than that nothing is read, and its slot is kept until the answer is
      written, for `request_seconds` at most.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        """Made by uvicorn for each connection."""
        super().__init__(*args, **options)
        self._headers_due: asyncio.TimerHandle | None = None
        self._taking_due: asyncio.TimerHandle | None = None
        self._taking_seconds: float = self.timeout_keep_alive

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request. Writing counts as paused whenever something waits to be taken."""
        transport.set_write_buffer_limits(0)
        self.app_state = {**self.app_state, "abort": transport.abort}
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the time runs on until they make up a request."""
        super().data_received(data)
        if self._is_answering:
            self._forget_headers()
            if self.conn.their_state is h11.DONE and len(self.conn.trailing_data[0]) <= HIGH_WATER_LIMIT:
                self.flow.resume_reading()
        elif self._headers_due is None:
            self._expect_headers()

    def pause_writing(self) -> None:
        """Wait until the client has taken what was sent, and no longer than it may."""
        super().pause_writing()
        self._expect_taking()

    def resume_writing(self) -> None:
        """All of it was taken."""
        self._forget_taking()
        super().resume_writing()

    def shutdown(self) -> None:
        """Called when the server begins to stop: clients that do not read have less time."""
        super().shutdown()
        self._taking_seconds = min(self._taking_seconds, (self.config.timeout_graceful_shutdown or 0) / 2)
        if self._taking_due is not None:
            self._forget_taking()
            self._expect_taking()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._forget_headers()
        self._forget_taking()
        super().connection_lost(exc)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_headers(self) -> None:
        self._headers_due = self.loop.call_later(self.timeout_keep_alive, self._give_up)

    def _forget_headers(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _expect_taking(self) -> None:
        self._taking_due = self.loop.call_later(self._taking_seconds, self.transport.abort)

    def _forget_taking(self) -> None:
        if self._taking_due is not None:
            self._taking_due.cancel()
            self._taking_due = None

    def _give_up(self) -> None:
        self._headers_due = None
        if not self._is_answering:
            self.timeout_keep_alive_handler()

"""HTTP/1.1 with bounded patience: a connection that does not send its request is closed."""

import asyncio
from typing import Any, final

from uvicorn.protocols.http.h11_impl import H11Protocol


@final
class PatientProtocol(H11Protocol):
    """uvicorn's protocol, which waits without end for a request's headers once a byte has come, but for that.

    The time that a client has for its headers, from its first byte or from the end of the last answer on, is that of an
    idle connection.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        """Made by uvicorn for each connection."""
        super().__init__(*args, **options)
        self._headers_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the time runs on until they make up a request."""
        super().data_received(data)
        if self._is_answering:
            self._forget()
        elif self._headers_due is None:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._forget()
        super().connection_lost(exc)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_headers(self) -> None:
        self._headers_due = self.loop.call_later(self.timeout_keep_alive, self._give_up)

    def _forget(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _give_up(self) -> None:
        self._headers_due = None
        if not self._is_answering:
            self.timeout_keep_alive_handler()

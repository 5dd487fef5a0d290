"""HTTP/1.1 with bounded patience: a connection that does not send its request, or does not read, is closed."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import h11
import uvicorn
from prometheus_client import disable_created_metrics
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..runtime.io.files import read_text
from ..runtime.predictor import Predictor
from .app import create_app
from .errors import ServeError
from .options import CONNECTION_BACKLOG, ServeOptions
from .service import Service


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


def run_server(predictor: Predictor, options: ServeOptions, on_ready: Callable[[str], None]) -> None:
    """Serve a model until SIGINT or SIGTERM.

    What runs then is finished, for `shutdown_seconds` at most; the signal goes on to the handler that was there before.

    Args:
        predictor: The model; all requests run through one pool over it.
        options: Address and bounds.
        on_ready: Called with the URL as soon as clients can connect.

    Raises:
        ServeError: The address cannot be listened on, or the artifact is not batch-invariant.
        PoolError: The pool cannot be made.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a time for every figure, which nobody asks for
    service = Service(predictor, options)
    try:
        with _listening(options) as listener:
            on_ready(_url(options, listener))
            asyncio.run(uvicorn.Server(_config(service)).serve(sockets=[listener]))
    finally:
        service.engine.pool.close(cancel_waiting=True)


def read_key(path: Path) -> str:
    """The key in a file: its only line.

    Raises:
        StorageError: The file cannot be read.
        ServeError: It holds no key, or more than one line.
    """
    return checked_key(read_text(path).removesuffix("\n"), str(path))


def checked_key(key: str, where: str) -> str:
    """A key that can be sent in a header.

    Raises:
        ServeError: It is empty, or has white space or characters outside ASCII.
    """
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ServeError(
            f"{where} holds no key that can be sent, expected one line of printable ASCII characters without spaces"
        )
    return key


def _listening(options: ServeOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family, backlog=CONNECTION_BACKLOG)
    except (OSError, TypeError, UnicodeError) as error:  # the latter two: no name that can be looked up
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]  # it names the address too
        raise ServeError(
            f"cannot listen on {options.host}, port {options.port}: {reason}; choose another --port (0: one that is "
            "free) or --host"
        ) from error


def _url(options: ServeOptions, listener: socket.socket) -> str:
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"http://{host}:{listener.getsockname()[1]}"


def _config(service: Service) -> uvicorn.Config:
    options = service.options
    return uvicorn.Config(
        create_app(service),
        loop="asyncio",
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=options.max_connections,
        timeout_keep_alive=options.keep_alive_seconds,
        timeout_graceful_shutdown=options.shutdown_seconds,
        h11_max_incomplete_event_size=options.max_header_bytes,
    )

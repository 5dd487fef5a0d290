"""The server process: its socket, uvicorn, the API key, and time limits for slow connections."""

import asyncio
import contextlib
import functools
import math
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, cast, final

import h11
import uvicorn
from prometheus_client import disable_created_metrics
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..runtime.io.files import read_text
from ..runtime.predictor import Predictor
from .access_log import log_to_stderr
from .app import create_app
from .errors import ServeError
from .model_file import ModelFile
from .options import CONNECTION_BACKLOG, ServeOptions
from .service import Service

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def run_server(
    predictor: Predictor, options: ServeOptions, on_ready: Callable[[str], None], file: ModelFile | None = None
) -> None:
    """Serve a model until SIGINT, SIGTERM or SIGHUP; signals that are ignored stay ignored.

    Running requests then have `shutdown_seconds` to finish, and the signal is passed on to the previous handler.

    Args:
        predictor: The model; all requests run through one stream pool over it.
        options: Address and limits.
        on_ready: Called with the URL once clients can connect.
        file: Where the model came from, and may come from again; None: it cannot be replaced.

    Raises:
        ServeError: The server cannot listen on the address, or the artifact is not batch-invariant.
        PoolError: The pool cannot be made.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]  # else each counter has a second series, its start time
    service = Service(predictor, options, file)
    try:
        with log_to_stderr(), _listen(options) as listener:
            on_ready(_url(options, listener))
            asyncio.run(Server(_config(service)).serve(sockets=[listener]))
    finally:
        service.close()


def read_key(path: Path) -> str:
    """Read the API key: the only line of a file.

    Raises:
        StorageError: The file cannot be read.
        ServeError: The file holds no key, or several lines.
    """
    return checked_key(read_text(path).removesuffix("\n"), str(path))


def checked_key(key: str, where: str) -> str:
    """Return a key that fits into a header.

    Raises:
        ServeError: The key is empty, or has white space or characters outside ASCII.
    """
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ServeError(
            f"{where} holds no key that can be sent, expected one line of printable ASCII characters without spaces"
        )
    return key


def _listen(options: ServeOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family, backlog=CONNECTION_BACKLOG)
    except (OSError, TypeError, UnicodeError) as error:  # TypeError, UnicodeError: the name cannot be looked up
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]  # that part repeats the address
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
        http=functools.partial(BoundedProtocol, client_seconds=options.client_seconds),  # type: ignore[arg-type]
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


@final
class Server(uvicorn.Server):
    """uvicorn's server, which ends on SIGHUP too, as its terminal closes, and leaves ignored signals ignored."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals within the block; then pass those that came on to the previous handlers."""
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        with super().capture_signals():
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            try:
                for number, handler in before.items():
                    signal.signal(number, signal.SIG_IGN if handler is signal.SIG_IGN else self.handle_exit)
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)


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

    def on_response_complete(self) -> None:
        """Wait for the next request, of which a part may have arrived."""
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

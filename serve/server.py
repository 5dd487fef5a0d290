"""The server process: its socket, uvicorn, its signals and the API key."""

import asyncio
import contextlib
import functools
import gc
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import final

import uvicorn
from prometheus_client import disable_created_metrics

from ..runtime.io.text_files import read_text
from ..runtime.predictor import Predictor
from .access_log import log_to_stderr
from .app import create_app
from .errors import ServeError
from .model_file import ModelFile
from .options import CONNECTION_BACKLOG, ServeOptions
from .protocol import BoundedProtocol
from .service import Service

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_TURN_SECONDS = 0.001


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
    loop_factory = _loop_factory()  # imports uvloop, which a signal must wait for, before clients can connect
    service = Service(predictor, options, file)
    try:
        server = Server(_config(service))
        with log_to_stderr(), server.handled_signals(), _listen(options) as listener:
            on_ready(_url(options, listener))
            with _rare_garbage_collection(), _short_turns(), asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(server.serve(sockets=[listener]))
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


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop where it is installed (it has none for Windows); None for asyncio's own."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop


@contextlib.contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Have the collector pass over what is there, and look at new objects a tenth as often, within a `with` block.

    Requests make hardly any cycles, but many objects that live while the model runs; else a tenth of the event loop's
    time is spent on them.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(10 * before[0], *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    """Ask Python's threads for turns of 1 ms, and not 5, within a `with` block.

    The pool's thread gives way to the event loop at each call of the network and must then wait for its turn: first
    events come in half the time, at the same tokens a second.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _TURN_SECONDS))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


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
    def handled_signals(self) -> Iterator[None]:
        """End the server on a signal within the block; then pass those that came on to the previous handlers.

        The block begins before clients can connect: an exception of a previous handler would break the event loop,
        which is then neither running nor closed.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        received: list[int] = []

        def on_signal(number: int, frame: FrameType | None) -> None:
            received.append(number)
            self.handle_exit(number, frame)

        before = {number: signal.getsignal(number) for number in _SIGNALS}
        try:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if handler is signal.SIG_IGN else on_signal)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        for number in reversed(received):
            signal.raise_signal(number)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `handled_signals`, which begins earlier."""
        yield

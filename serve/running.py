"""The server as a process: it listens, says where, answers until it is told to stop, and ends in order."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from prometheus_client import disable_created_metrics

from ..runtime.files import read_text
from ..runtime.predictor import Predictor
from .app import create_app
from .errors import ServeError
from .options import ServeOptions
from .protocol import PatientProtocol
from .service import Service

_BACKLOG = 1024


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
        return socket.create_server((options.host, options.port), family=family, backlog=_BACKLOG)
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

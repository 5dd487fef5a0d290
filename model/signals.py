"""SIGINT and SIGTERM as a request to stop at the next safe point; a second signal ends the process at once."""

import signal
import threading
from types import FrameType
from typing import Any, final

from .errors import Interrupted

_HANDLED = (signal.SIGINT, signal.SIGTERM)


@final
class StopRequest:
    """Within a `with` block, remembers the first SIGINT or SIGTERM. Outside the main thread it does nothing."""

    def __init__(self) -> None:
        """No signal has come."""
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        """Start to listen."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in _HANDLED}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the handlers."""
        self._restore()

    def __bool__(self) -> bool:
        """Whether a signal has come."""
        return self._received is not None

    def raise_if_made(self) -> None:
        """Raise the request as an error.

        Raises:
            Interrupted: A signal has come.
        """
        if self._received is not None:
            raise Interrupted(self._received)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

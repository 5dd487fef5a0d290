"""SIGINT and SIGTERM as a request to stop at the next safe point; a second signal ends the process at once."""

import signal
import threading
from types import FrameType
from typing import Any, final

_HANDLED = (signal.SIGINT, signal.SIGTERM)


class StoppedError(Exception):
    """A signal ended work that leaves nothing behind and can be repeated."""


@final
class StopRequest:
    """Records the first SIGINT or SIGTERM within a `with` block; outside the main thread it does nothing.

    Attributes:
        received: Number of the signal; 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in _HANDLED}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def check(self) -> None:
        """Raise `StoppedError` if a signal has come."""
        if self.received:
            raise StoppedError

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

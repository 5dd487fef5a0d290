"""SIGINT and SIGTERM as a request to stop at the next safe point; a second signal ends the process at once."""

import signal
import threading
from types import FrameType
from typing import Any, final

_HANDLED = (signal.SIGINT, signal.SIGTERM)


class StoppedError(Exception):
    """A signal ended something that leaves nothing behind and can be done again."""


@final
class StopRequest:
    """Within a `with` block, remembers the first SIGINT or SIGTERM. Outside the main thread it does nothing."""

    def __init__(self) -> None:
        """No signal has come."""
        self.received = 0
        """Number of the signal; 0: none has come."""
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        """Start to listen."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in _HANDLED}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the handlers."""
        self._restore()

    def check(self) -> None:
        """End what is being done if a signal has come.

        Raises:
            StoppedError: One has.
        """
        if self.received:
            raise StoppedError

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

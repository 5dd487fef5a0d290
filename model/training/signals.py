"""SIGINT, SIGTERM and SIGHUP as a request to stop at the next safe point.

A second SIGINT or SIGTERM ends the process at once. A second SIGHUP does not: shells and service managers repeat it, or
send it beside SIGTERM, when a session ends. Signals that are ignored, as under nohup, stay ignored.
"""

import signal
import threading
from types import FrameType
from typing import Any, final

_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
_HANDLED = tuple(number for number in (signal.SIGINT, signal.SIGTERM, _HANGUP) if number is not None)


class StoppedError(Exception):
    """A signal ended work that leaves nothing behind and can be repeated."""


@final
class StopRequest:
    """Records the first SIGINT, SIGTERM or SIGHUP within a `with` block; outside the main thread it does nothing.

    Attributes:
        received: Number of the signal; 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in _HANDLED:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore(_HANDLED)

    def check(self) -> None:
        """Raise `StoppedError` if a signal has come."""
        if self.received:
            raise StoppedError

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = self.received or number
        if number != _HANGUP:
            self._restore((signal.SIGINT, signal.SIGTERM))

    def _restore(self, numbers: tuple[int, ...]) -> None:
        for number in numbers:
            if number in self._previous:
                signal.signal(number, self._previous.pop(number))

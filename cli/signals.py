"""SIGINT and SIGTERM while a command runs, imports modules, or has done its work."""

import signal
import sys
from types import FrameType
from typing import Any, final

_AGAIN_SECONDS = 0.05
_IMPORTING = "importlib._bootstrap"
_HAS_TIMER = hasattr(signal, "setitimer")


@final
class Interruptions:
    """Within a `with` block SIGINT raises a KeyboardInterrupt and SIGTERM ends the program in order, outside imports.

    What is raised in an import may be lost (Python has callbacks there that print it and go on), or become another
    error of the module that was being made: it is raised as soon as the import is done. What is raised in a finalizer
    or a callback of the interpreter is lost always, and is raised again. After the block the program has done its
    work, and SIGINT is ignored. One that is ignored before, as in a shell's background jobs, stays so.
    """

    def __init__(self) -> None:
        """No signal has come."""
        self._number = 0
        self._raised: BaseException | None = None
        self._done = False

    def __enter__(self) -> None:
        """Start to listen."""
        sys.unraisablehook = self._lose
        signal.signal(signal.SIGTERM, self._receive)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._receive)
        if _HAS_TIMER:
            signal.signal(signal.SIGALRM, self._again)

    def __exit__(self, *_: object) -> None:
        """Let Python end with its exit code: it does not listen any more, and would be killed."""
        self._done = True
        if _HAS_TIMER:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if signal.getsignal(signal.SIGINT) == self._receive:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._number = number
        self._again(number, frame)

    def _again(self, _: int, frame: FrameType | None) -> None:
        if _HAS_TIMER and _is_importing(frame):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
            return
        self._raised = KeyboardInterrupt() if self._number == signal.SIGINT else SystemExit(128 + self._number)
        raise self._raised

    def _lose(self, lost: Any) -> None:
        """Python could not raise an exception any further: `lost` says which, and where."""
        if not _HAS_TIMER or lost.exc_value is None or lost.exc_value is not self._raised:
            sys.__unraisablehook__(lost)
        elif not self._done:
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_IMPORTING):
            return True
        frame = frame.f_back
    return False

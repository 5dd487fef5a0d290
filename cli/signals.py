"""SIGINT, SIGTERM and SIGHUP while a command runs, imports modules, or has done its work."""

import signal
import sys
from types import FrameType
from typing import Any, final

_RETRY_SECONDS = 0.005
_IMPORT_MACHINERY = "importlib._bootstrap"
_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
_HANDLED = tuple(number for number in (signal.SIGINT, signal.SIGTERM, _HANGUP) if number is not None)
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
_HAS_TIMER = hasattr(signal, "setitimer")


@final
class SignalHandlers:
    """Within a `with` block SIGINT raises KeyboardInterrupt, SIGTERM and SIGHUP raise SystemExit, but not in an import.

    An exception raised inside an import may be lost (Python calls back there, prints the error and goes on) or turn
    into another error of the module. It is raised once the import is done. An exception raised in a finalizer or an
    interpreter callback is always lost, so it is raised again. After the block the work is done and SIGINT is ignored.
    A signal that is ignored before the block, as SIGHUP under nohup and SIGINT in a shell's background jobs, stays
    ignored. A SIGHUP after another signal is ignored too: a session that ends repeats it, or sends it beside SIGTERM,
    and it would cut the command's own end short.
    """

    def __init__(self) -> None:
        self._number = 0
        self._raised: BaseException | None = None
        self._done = False

    def __enter__(self) -> None:
        sys.unraisablehook = self._on_unraisable
        for number in _HANDLED:
            if _is_free(signal.getsignal(number)):
                signal.signal(number, self._on_signal)
        if _HAS_TIMER:
            signal.signal(signal.SIGALRM, self._raise)

    def __exit__(self, *_: object) -> None:
        """Let Python end with its own exit code: a signal during shutdown would kill it."""
        self._done = True
        if _HAS_TIMER:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if signal.getsignal(signal.SIGINT) == self._on_signal:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == _HANGUP and self._number:
            return
        self._number = number
        self._raise(number, frame)

    def _raise(self, _: int, frame: FrameType | None) -> None:
        if _HAS_TIMER and _is_importing(frame):
            signal.setitimer(signal.ITIMER_REAL, _RETRY_SECONDS)
            return
        self._raised = KeyboardInterrupt() if self._number == signal.SIGINT else SystemExit(128 + self._number)
        raise self._raised

    def _on_unraisable(self, unraisable: Any) -> None:
        """Raise our exception again if it is the one that Python could not raise."""
        if not _HAS_TIMER or unraisable.exc_value is None or unraisable.exc_value is not self._raised:
            sys.__unraisablehook__(unraisable)
        elif not self._done:
            signal.setitimer(signal.ITIMER_REAL, _RETRY_SECONDS)


def _is_free(handler: Any) -> bool:
    """Whether nobody else handles the signal: the default does, or the handlers of an earlier block."""
    return handler in _DEFAULTS or isinstance(getattr(handler, "__self__", None), SignalHandlers)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_IMPORT_MACHINERY):
            return True
        frame = frame.f_back
    return False

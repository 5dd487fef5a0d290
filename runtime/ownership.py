"""One owner at a time: an object that two threads use at once says so instead of mixing their texts."""

import functools
import threading
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from .errors import OwnerError

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Owned(Protocol):
    """What has a lock of its own, which one thread may take several times."""

    _lock: Any


_Object = TypeVar("_Object", bound=Owned)


def new_lock() -> Any:
    """The lock of an owned object."""
    return threading.RLock()


def owned(
    method: Callable[Concatenate[_Object, _Parameters], _Result],
) -> Callable[Concatenate[_Object, _Parameters], _Result]:
    """A method that raises an OwnerError, and does nothing, while another thread is in the object."""

    @functools.wraps(method)
    def call(self: _Object, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        if not self._lock.acquire(blocking=False):
            raise OwnerError(
                "another thread uses this stream at this moment, expected one owner at a time; give each thread a "
                "stream of its own (fork() it, or predictor.stream(state=stream.state)), or use a StreamPool"
            )
        try:
            return method(self, *args, **kwargs)
        finally:
            self._lock.release()

    return call

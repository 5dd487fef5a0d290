"""The inbox of an event loop: one wake-up for all generations of a call."""

import asyncio
import contextlib
import math
import weakref
from collections import deque
from collections.abc import Sequence
from typing import final

from .generation import Generation


@final
class LoopInbox:
    """Waits for generations in one event loop.

    With a wake-up for each generation, the loop's thread and the pool's would compete for the interpreter's lock.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use `running`."""
        self._loop = weakref.ref(loop)  # else no loop would ever be freed
        self._ready: deque[Generation] = deque()
        self._is_woken = False
        self._waiting: dict[Generation, asyncio.Future[None]] = {}

    @classmethod
    def running(cls) -> "LoopInbox":
        """The inbox of the running loop."""
        loop = asyncio.get_running_loop()
        inbox = _INBOXES.get(loop)
        if inbox is None:
            inbox = _INBOXES[loop] = cls(loop)
        return inbox

    async def wait(self, generations: Sequence[Generation], count: int, seconds: float | None = None) -> None:
        """Wait until one of the generations has `count` tokens or has ended; one task at a time waits for each.

        Args:
            generations: What is waited for; they have this inbox.
            count: The number of tokens.
            seconds: Longest time; None for no limit.
        """
        loop = asyncio.get_running_loop()
        end = math.inf if seconds is None else loop.time() + seconds
        while not _any_has(generations, count) and loop.time() < end:
            future = loop.create_future()
            timer = None if seconds is None else loop.call_at(end, _resolve, future)
            for generation in generations:
                self._waiting[generation] = future
                generation.want(count)
            try:
                if not _any_has(generations, count):
                    await future
            finally:
                for generation in generations:
                    self._waiting.pop(generation, None)
                if timer is not None:
                    timer.cancel()

    def put(self, generations: Sequence[Generation]) -> None:
        """Wake the loop, unless it has been woken; runs in the pool's thread."""
        self._ready.extend(generations)
        loop = self._loop()
        if loop is not None and not self._is_woken:
            self._is_woken = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_woken = False  # first, so that news that come after the last check wake the loop again
        while self._ready:
            future = self._waiting.pop(self._ready.popleft(), None)
            if future is not None:
                _resolve(future)


def _any_has(generations: Sequence[Generation], count: int) -> bool:
    return any(generation.has(count) for generation in generations)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


_INBOXES: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopInbox] = weakref.WeakKeyDictionary()

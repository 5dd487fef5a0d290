"""Results of the pool's thread, handed to the event loop once a call and not once a request.

A wake-up for each of many requests would let the two threads take the interpreter from each other as often.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..runtime.pool import StreamPool


@final
class Handing:
    """`StreamPool.step_async` for many tasks of one event loop."""

    def __init__(self, pool: StreamPool) -> None:
        """Hand out what this pool computes."""
        self._pool = pool
        self._ready: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._woken: asyncio.AbstractEventLoop | None = None

    async def step(self, stream: int, tokens: Sequence[int], *, logits_to_keep: int | None = 1) -> NDArray[np.float32]:
        """Read tokens: logits, float32 [kept, vocabulary]. A task that is cancelled takes its request back.

        Raises:
            PoolError: As for `StreamPool.step`, as are TokenError and BusyError.
        """
        loop = asyncio.get_running_loop()
        request = self._pool.submit(stream, tokens, logits_to_keep=logits_to_keep)
        waiting: asyncio.Future[NDArray[np.float32]] = loop.create_future()
        request.add_done_callback(lambda done: self._note(loop, waiting, done))
        try:
            return await waiting
        finally:
            request.cancel()  # nothing waits any more where the task was cancelled

    def _note(self, loop: asyncio.AbstractEventLoop, waiting: "asyncio.Future[Any]", done: "Future[Any]") -> None:
        """Keep what is done, and wake the loop unless it is on its way; called in the pool's thread."""
        self._ready.append((waiting, done))
        if self._woken is not loop:
            self._woken = loop
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        """Give everybody their results; called in the loop."""
        self._woken = None  # before the last look: what comes after that wakes the loop again
        while self._ready:
            waiting, done = self._ready.popleft()
            if waiting.done():
                continue
            if done.cancelled():
                waiting.cancel()
            elif (error := done.exception()) is not None:
                waiting.set_exception(error)
            else:
                waiting.set_result(done.result())

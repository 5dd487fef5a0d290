"""The one stream pool behind all requests: slots are taken and given back, tokens are read in small parts.

A wake-up for each of many requests would let the two threads take the interpreter from each other as often.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import PoolError
from ..runtime.pool.options import PoolOptions
from ..runtime.pool.stream_pool import StreamPool
from ..runtime.predictor import Predictor
from ..runtime.score import require_finite
from ..runtime.state import State
from .completions.logprobs import Scored, score_rows
from .errors import ServeError, busy
from .options import ServeOptions


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


_READING_CHUNK = 128
_SCORING_CHUNK = 32
"""Tokens of one request of the pool: others wait that long. The logits of all positions come back only for scores."""


@final
class Engine:
    """Runs the model for many requests at once. It belongs to one event loop; only numbers are made in other threads.

    A request takes slots first, then opens as many streams. A stream that is closed while it runs keeps its place in
    the pool until that call ends, so the pool has more places than there are slots.
    """

    def __init__(self, predictor: Predictor, options: ServeOptions) -> None:
        """Make the pool.

        Raises:
            ServeError: The artifact is not batch-invariant, and that is not allowed.
            PoolError: It says it is, but is not on this machine; or there is not enough memory.
        """
        artifact = predictor.artifact
        if not (artifact.batch_invariant or options.allow_inexact):
            raise ServeError(
                f"the {artifact.variant} artifact is not batch-invariant: an answer would depend, slightly, on which "
                "others are written at the same time; use another precision (fp32), or allow that: --allow-inexact"
            )
        self.predictor = predictor
        self.vocabulary = predictor.vocabulary
        self.slots = options.max_choices
        self.slots_taken = 0
        self.tokens_read = 0
        self.refused = 0
        places = 2 * options.max_choices + 2
        self.pool = StreamPool(
            predictor, PoolOptions(max_streams=places, max_waiting=places, allow_inexact=options.allow_inexact)
        )
        self._handing = Handing(self.pool)
        self._probing = asyncio.Lock()

    @contextlib.contextmanager
    def take_slots(self, count: int) -> Iterator[None]:
        """Keep so many slots for the length of a request.

        Raises:
            ApiError: Fewer are free: 429.
        """
        if self.slots_taken + count > self.slots:
            self.refused += 1
            raise busy(
                f"{self.slots_taken} of {self.slots} choices are being written and {count} more are asked for; "
                "try again later"
            )
        self.slots_taken += count
        try:
            yield
        finally:
            self.slots_taken -= count

    @contextlib.contextmanager
    def open_stream(self, state: State | None = None) -> Iterator[int]:
        """A stream of the pool that goes on from `state`; it is closed in the end, whatever runs.

        Raises:
            StateError: The state holds numbers that are not finite.
        """
        stream = self.pool.open_stream(state)
        try:
            yield stream
        finally:
            with contextlib.suppress(PoolError):  # the pool is closed, and its streams with it
                self.pool.close_stream(stream)

    async def read(self, stream: int, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Read one token or more; the logits of what comes next, float32 [vocabulary].

        Raises:
            PoolError: The call failed, or the pool is closed.
            NumberError: A logit is no finite number.
        """
        for chunk in _chunks(tokens, _READING_CHUNK):
            logits = await self._handing.step(stream, chunk)
            self.tokens_read += len(chunk)
        require_finite(logits[-1], "logits")
        return np.asarray(logits[-1])

    async def score(
        self, stream: int, tokens: Sequence[int], targets: Sequence[int], count: int
    ) -> AsyncIterator[Scored]:
        """Read tokens and score another one after each of them, with `count` of the most probable ones.

        The arithmetic over the vocabulary is done in another thread.

        Raises:
            PoolError: The call failed, or the pool is closed.
            NumberError: A logit is no finite number.
        """
        parts = zip(_chunks(tokens, _SCORING_CHUNK), _chunks(targets, _SCORING_CHUNK), strict=True)
        for chunk, wanted in parts:
            logits = await self._handing.step(stream, chunk, logits_to_keep=None)
            self.tokens_read += len(chunk)
            for scored in await asyncio.to_thread(score_rows, logits, np.array(wanted, np.int64), count):
                yield scored

    async def probe(self) -> None:
        """Read one token, to see whether the pool works.

        Raises:
            PoolError: It does not.
            NumberError: What it gives is no finite number.
        """
        async with self._probing:
            with self.open_stream() as stream:
                logits = await self._handing.step(stream, [self.vocabulary.end_of_sentence_id])
                require_finite(logits, "logits")


def _chunks(tokens: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (tokens[start : start + size] for start in range(0, len(tokens), size))

"""The one stream pool behind all requests: slots are taken and given back, tokens are read in small parts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import PoolError
from ..runtime.pool import StreamPool
from ..runtime.pool_options import PoolOptions
from ..runtime.predictor import Predictor
from ..runtime.score import require_finite
from ..runtime.state import State
from .errors import ServeError, busy
from .handing import Handing
from .options import ServeOptions
from .scoring import Scored, score_rows

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

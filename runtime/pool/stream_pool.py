"""Many users at once: a pool keeps the states of many streams and runs their requests together.

One thread owns the session. It takes the requests that wait, runs those that fit each other in one call, and hands each
its own rows; everything else only puts requests into a bounded queue.
"""

import math
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..batch_invariance import first_difference
from ..errors import OptionError, PoolError, StateError, TokenError
from ..predictor import Predictor
from ..state import State
from .batcher import Batcher, PoolStats
from .options import PoolOptions


@final
class StreamPool:
    """Streams of many users over one predictor; every method may be called from any thread.

    A stream's numbers are to the bit those of `Predictor.step` on that stream alone, whoever runs beside it. That rests
    on the artifact being batch-invariant, which is measured again when a pool is made, in the batch sizes it will use.
    A request that ends with an error, a time-out or a cancellation has changed nothing: its stream is as it was.

    Example:
        >>> from lmtool.runtime import Predictor, StreamPool
        >>> predictor = Predictor.load("model.onnx")
        >>> with StreamPool(predictor) as pool:
        ...     stream = pool.open_stream()
        ...     logits = pool.step(stream, [2, 7])
        ...     later = pool.submit(stream, [int(logits[0].argmax())])   # a concurrent.futures.Future
        ...     logits = later.result()
        >>> logits.shape == (1, len(predictor.vocabulary))
        True
    """

    def __init__(self, predictor: Predictor, options: PoolOptions | None = None) -> None:
        """Reserve the states and start the thread.

        Args:
            predictor: Whose session runs the requests; it stays usable beside the pool.
            options: The pool's bounds; None for the defaults.

        Raises:
            PoolError: The artifact is not batch-invariant, or there is not enough memory.
            NumberError: The network computes numbers that are not finite.
        """
        self.predictor = predictor
        self.options = PoolOptions() if options is None else options
        if not self.options.allow_inexact:
            _require_exact(predictor, self.options)
        self._batcher = Batcher(predictor, self.options)

    def __enter__(self) -> "StreamPool":
        """The pool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; after an error, without running what still waits."""
        self.close(cancel_waiting=error is not None)

    def open_stream(self, state: State | None = None) -> int:
        """Begin a stream; the id by which the other methods know it, never used again.

        Args:
            state: Where it goes on from, of one stream; None for the all-zero state of one that has read nothing. (A
                text begins by reading the end-of-sentence token; `Predictor.stream` does that by itself.)

        Raises:
            BusyError: As many streams are open as may be.
            StateError: The state is another model's, holds more than one stream, a cache, numbers that are not finite,
                or tokens that no step has run yet.
            PoolError: The pool is closed.
        """
        if state is not None:
            self._check_state(state)
        return self._batcher.open_stream(state)

    def close_stream(self, stream_id: int) -> None:
        """End a stream and free its slot. A request that waits ends with a PoolError; one that runs is answered.

        Raises:
            PoolError: The stream is not open, or the pool is closed.
        """
        self._batcher.close_stream(stream_id)

    def state(self, stream_id: int) -> State:
        """A snapshot of the stream, batch 1, for `open_stream` here or elsewhere, or for the predictor.

        Raises:
            PoolError: The stream is not open, its request is not done, or the pool is closed.
        """
        return self._batcher.snapshot(stream_id)

    def submit(
        self,
        stream_id: int,
        token_ids: Sequence[int] | NDArray[np.int64],
        *,
        logits_to_keep: int | None = 1,
        timeout_seconds: float | None = None,
    ) -> Future[NDArray[np.float32]]:
        """Have a stream read tokens; returns at once.

        Args:
            stream_id: Whose turn it is. A stream has one request at a time: the next tokens wait for the last logits.
            token_ids: int64 [tokens], 1 to `max_tokens` of them, each in [0, vocabulary).
            logits_to_keep: Compute logits for the last k positions only, 1 <= k <= tokens; None for all.
            timeout_seconds: How long the request may wait before it runs; None for as long as it takes. It ends with a
                RequestTimeoutError then, at the end of the call that runs at that moment.

        Returns:
            A future of the logits, float32 [kept, vocabulary], a view of the call's: copy what you keep for long. Its
            `cancel` takes the request back unless it runs already. It fails with a PoolError where the call failed.
            What is called when it is done runs in the pool's thread and must not wait for the pool.

        Raises:
            TokenError: The tokens have another type or shape, are none, or one lies outside the vocabulary.
            OptionError: An argument is outside its range.
            BusyError: As many requests wait as may.
            PoolError: The stream is not open or has a request already, or the pool is closed.
        """
        tokens = self._checked_tokens(token_ids)
        kept = len(tokens) if logits_to_keep is None else logits_to_keep
        if not 1 <= kept <= len(tokens):
            raise OptionError(f"logits_to_keep is {kept}, expected 1 to the {len(tokens)} positions given")
        seconds = math.inf if timeout_seconds is None else timeout_seconds
        if not seconds > 0:
            raise OptionError(f"timeout_seconds is {timeout_seconds}, expected more than 0")
        return self._batcher.submit(stream_id, tokens, kept, seconds)

    def step(
        self,
        stream_id: int,
        token_ids: Sequence[int] | NDArray[np.int64],
        *,
        logits_to_keep: int | None = 1,
        timeout_seconds: float | None = None,
    ) -> NDArray[np.float32]:
        """`submit`, and wait: logits, float32 [kept, vocabulary].

        Raises:
            TokenError: As for `submit`, as are OptionError, BusyError and PoolError.
            RequestTimeoutError: The request waited longer than `timeout_seconds`.
        """
        if self._batcher.is_own_thread:
            raise PoolError("step() was called in the pool's own thread and would wait for itself; use submit()")
        request = self.submit(stream_id, token_ids, logits_to_keep=logits_to_keep, timeout_seconds=timeout_seconds)
        try:
            return request.result()
        finally:
            request.cancel()  # nothing waits any more where waiting was interrupted

    async def step_async(
        self,
        stream_id: int,
        token_ids: Sequence[int] | NDArray[np.int64],
        *,
        logits_to_keep: int | None = 1,
        timeout_seconds: float | None = None,
    ) -> NDArray[np.float32]:
        """`step` for asyncio. A task that is cancelled takes its request back, unless it runs already.

        Raises:
            TokenError: As for `step`, as are the others.
        """
        import asyncio  # whoever awaits has it already; whoever does not need not load it

        request = self.submit(stream_id, token_ids, logits_to_keep=logits_to_keep, timeout_seconds=timeout_seconds)
        return await asyncio.wrap_future(request)

    @property
    def stats(self) -> PoolStats:
        """What the pool holds and has done; of a closed pool too."""
        return self._batcher.stats

    def close(self, *, cancel_waiting: bool = False) -> None:
        """Take no more requests, run those that wait, stop the thread and free the states. May be called again.

        It waits; in a coroutine call it through `asyncio.to_thread`.

        Args:
            cancel_waiting: End the requests that wait with a PoolError instead of running them.

        Raises:
            ForkError: The pool was made in another process.
        """
        self._batcher.close(cancel_waiting)

    def _checked_tokens(self, token_ids: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """The pool's own copy, int64 [tokens]."""
        tokens = np.array(self.predictor.checked_ids(token_ids))
        if not 1 <= len(tokens) <= self.options.max_tokens:
            raise TokenError(
                f"the request has {len(tokens):,} tokens, expected 1 to {self.options.max_tokens:,}; "
                "split a longer one, one part after the other, or raise max_tokens"
            )
        return tokens

    def _check_state(self, state: State) -> None:
        self.predictor.check_state(state, 1)
        state.require_finite()
        if state.pending.size:
            raise StateError(
                f"the state has {state.pending.size} tokens that no step has run yet, expected none; "
                "open the stream without `pending` and submit them as its first request"
            )
        if state.cache is not None:
            raise StateError(
                f"the state has a stream's cache of {len(state.cache)} pairs, which a pool would not read; "
                "go on with predictor.stream(state=...), or drop it: dataclasses.replace(state, cache=None)"
            )


def _require_exact(predictor: Predictor, options: PoolOptions) -> None:
    artifact = predictor.artifact
    found = "it is not batch-invariant"
    if artifact.batch_invariant:
        difference = first_difference(predictor, options.batch_sizes)
        if difference is None:
            return
        found = f"it says it is batch-invariant, but here, alone and in {difference}, a stream's numbers differ"
    raise PoolError(
        f"the {artifact.variant} artifact would give a stream other numbers than it gets alone: {found}; "
        "use another precision (fp32), or PoolOptions(allow_inexact=True) where small differences do not matter"
    )

"""StreamPool: keeps the states of many streams and runs their requests together (continuous batching).

One thread owns the session. It runs queued requests of the same shape in one call and gives each its rows; all other
threads only add requests to a bounded queue.
"""

import math
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..arguments import checked_flag, checked_instance, checked_integer, checked_number
from ..batches.batch_invariance import first_difference
from ..errors import OptionError, PoolError, StateError, TokenError, counted
from ..generation_plan import GenerationPlan
from ..predictor import Predictor
from ..sampling import Sampling
from ..state import State
from ..text.text_decoder import TextDecoder
from .batcher import Batcher
from .generation import Generation
from .generation_job import GenerationJob
from .options import PoolOptions
from .pool_stats import PoolStats
from .written_text import WrittenText


@final
class StreamPool:
    """Many streams over one predictor. Thread-safe.

    A stream's logits equal those of `Predictor.step` on that stream alone, to the bit, whatever runs beside it. This
    requires a batch-invariant artifact; the pool measures that again at the start, for the batch sizes it will use.
    A request that fails, times out or is cancelled leaves its stream unchanged.

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
            predictor: Runs the requests; it stays usable beside the pool.
            options: Limits of the pool; None for the defaults.

        Raises:
            PoolError: The artifact is not batch-invariant, or there is not enough memory.
            NumberError: The network computes NaN or infinity.
        """
        self.predictor = checked_instance("predictor", predictor, Predictor, "load one: Predictor.load(path)")
        self.options = checked_instance("options", PoolOptions() if options is None else options, PoolOptions)
        if not self.options.allow_inexact:
            _require_exact(predictor, self.options)
        self._batcher = Batcher(predictor, self.options)

    def __enter__(self) -> "StreamPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; after an error, do not run queued requests."""
        self.close(cancel_waiting=error is not None)

    def open_stream(self, state: State | None = None) -> int:
        """Open a stream and return its id, which is never reused.

        Args:
            state: State to start from, batch 1; None for the all-zero state. (A text begins by reading the
                end-of-sentence token; `Predictor.stream` does that by itself.)

        Raises:
            BusyError: `max_streams` streams are open.
            StateError: The state belongs to another model, holds several streams, a cache, NaN or infinity, or pending
                tokens.
            PoolError: The pool is closed.
        """
        if state is not None:
            self._check_state(state)
            if state.pending.size:
                raise StateError(
                    f"the state has {counted(state.pending.size, 'token')} that no step has run yet, expected none; "
                    "open the stream without `pending` and submit them as its first request"
                )
        return self._batcher.open_stream(state)

    def close_stream(self, stream_id: int) -> None:
        """Close a stream and free its slot. A queued request fails with a PoolError; a running one completes.

        Raises:
            PoolError: The stream is not open, or the pool is closed.
        """
        self._batcher.close_stream(stream_id)

    def state(self, stream_id: int) -> State:
        """The stream's state, batch 1, for `open_stream` of this or another pool, or for the predictor.

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
        """Queue tokens for a stream to read; return at once.

        Args:
            stream_id: The stream. It has one request at a time.
            token_ids: int64 [tokens], 1 to `max_tokens` of them, each in [0, vocabulary).
            logits_to_keep: Compute logits for the last k positions only, 1 <= k <= tokens; None for all.
            timeout_seconds: How long the request may wait before it runs; None for no limit. After that it fails with
                a RequestTimeoutError, once the call that runs at that time has ended.

        Returns:
            A future of the logits, float32 [kept, vocabulary], a view into those of the whole call: copy what you keep
            for long. `cancel` withdraws a request that does not run yet. The future fails with a PoolError if the call
            fails. Its callbacks run in the pool's thread and must not wait for the pool.

        Raises:
            TokenError: The tokens have a wrong type or shape, there are none, or one is outside the vocabulary.
            OptionError: An argument is outside its range.
            BusyError: The queue is full.
            PoolError: The stream is not open or has a request already, or the pool is closed.
        """
        tokens = self._checked_tokens(token_ids)
        kept = len(tokens) if logits_to_keep is None else checked_integer("logits_to_keep", logits_to_keep)
        if not 1 <= kept <= len(tokens):
            raise OptionError(f"logits_to_keep is {kept}, expected 1 to the {len(tokens)} positions given")
        return self._batcher.submit(stream_id, tokens, kept, _checked_timeout(timeout_seconds))

    def step(
        self,
        stream_id: int,
        token_ids: Sequence[int] | NDArray[np.int64],
        *,
        logits_to_keep: int | None = 1,
        timeout_seconds: float | None = None,
    ) -> NDArray[np.float32]:
        """`submit`, then wait; returns the logits, float32 [kept, vocabulary].

        Raises:
            TokenError: As for `submit`; also OptionError, BusyError and PoolError.
            RequestTimeoutError: The request waited longer than `timeout_seconds`.
        """
        if self._batcher.is_own_thread:
            raise PoolError("step() was called in the pool's own thread and would wait for itself; use submit()")
        request = self.submit(stream_id, token_ids, logits_to_keep=logits_to_keep, timeout_seconds=timeout_seconds)
        try:
            return request.result()
        finally:
            request.cancel()  # if waiting was interrupted

    async def step_async(
        self,
        stream_id: int,
        token_ids: Sequence[int] | NDArray[np.int64],
        *,
        logits_to_keep: int | None = 1,
        timeout_seconds: float | None = None,
    ) -> NDArray[np.float32]:
        """`step` for asyncio. Cancelling the task withdraws a request that does not run yet.

        Raises:
            TokenError: As for `step`; also its other errors.
        """
        import asyncio  # callers that await have loaded it; others need not

        request = self.submit(stream_id, token_ids, logits_to_keep=logits_to_keep, timeout_seconds=timeout_seconds)
        return await asyncio.wrap_future(request)

    def generate(
        self,
        prompt: str | Sequence[int] | NDArray[np.int64] = "",
        max_tokens: int = 20,
        *,
        state: State | None = None,
        timeout_seconds: float | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        method: str = "weighted",
        seed: int | Sequence[int] | None = None,
        allow_unknown: bool = False,
        repetition_penalty: float = 1.0,
        repetition_window: int = 64,
        stop: str | Sequence[str] = (),
        stop_at_end_of_sentence: bool = False,
        never: str | Collection[str] = (),
    ) -> GenerationJob:
        """Start to write a text beside others; return at once.

        The text is to the bit what `predictor.stream(state)` writes that is fed the prompt: the pool reads the prompt
        in parts and draws the tokens in its own thread, those of all jobs together. A job has a stream from now to its
        end and counts as one waiting request.

        Args:
            prompt: Text or token ids, after an end of sentence; with `state`, after that state's text.
            max_tokens: The number of tokens to write. All are written, whether or not they are read meanwhile.
            state: State to start from, batch 1, as of `Stream.state`; its pending tokens are read first.
            timeout_seconds: How long the text may take; None for no limit. After that the job fails with a
                RequestTimeoutError, once the call that runs at that time has ended.
            temperature: See `Stream.generate`, as for all that follow.
            top_k: See there.
            top_p: See there.
            method: See there.
            seed: See there.
            allow_unknown: See there.
            repetition_penalty: See there.
            repetition_window: See there.
            stop: See there.
            stop_at_end_of_sentence: See there.
            never: See there.

        Raises:
            OptionError: An argument is outside its range; as for `Stream.generate`.
            TokenError: The prompt has a wrong type or shape, or an id outside the vocabulary; or there is nothing to
                read, as the state has no pending tokens and the prompt is empty.
            StateError: The state belongs to another model, holds several streams, a cache, NaN or infinity.
            BusyError: `max_waiting` requests wait, or `max_streams` streams are open; nothing was changed.
            PoolError: The pool is closed.
        """
        sampling = Sampling(method, temperature, top_k, top_p, allow_unknown, repetition_penalty, repetition_window)
        vocabulary = self.predictor.vocabulary
        plan = GenerationPlan.make(vocabulary, max_tokens, sampling, seed, stop, stop_at_end_of_sentence, never)
        if state is not None:
            self._check_state(state)
        tokens = self._prompt_tokens(prompt, state)
        before = 1 if state is None else state.pending.size
        ending = (b"", "") if state is None else (state.partial, state.letters)
        text = TextDecoder(vocabulary, tokens[before - 1] if before else None, *ending)
        text.skip(tokens[before:])
        if isinstance(prompt, str) and prompt[-1:].isspace():
            text.previous = None
        tokens, text.takes_space = vocabulary.spaces.opened(tokens)
        deadline = time.monotonic() + _checked_timeout(timeout_seconds)
        written = WrittenText(plan, text) if plan.stops else None
        watch = None if written is None else written.watch
        generation = Generation(tokens, plan, vocabulary, text=text, deadline=deadline, watch=watch)
        job = GenerationJob(self._batcher, generation, text, written)
        self._batcher.generate(generation, state)
        return job

    def cancel(self, generation: Generation) -> None:
        """End a generation if it has not ended; for `lmtool.serve`."""
        self._batcher.cancel(generation)

    def start(self, generation: Generation, state: State | None) -> None:
        """Run a generation from this state, without its pending tokens; for `lmtool.serve`.

        Raises:
            StateError: As for `generate`; also BusyError and PoolError.
        """
        if state is not None:
            self._check_state(state)
        self._batcher.generate(generation, state)

    @property
    def stats(self) -> PoolStats:
        """Counters of the pool; also after `close`."""
        return self._batcher.stats

    def close(self, *, cancel_waiting: bool = False) -> None:
        """Refuse new requests, run the queued ones, stop the thread and free the states. Idempotent.

        It blocks; in a coroutine call it through `asyncio.to_thread`.

        Args:
            cancel_waiting: Fail queued requests with a PoolError instead of running them.

        Raises:
            ForkError: The pool was made in another process.
        """
        self._batcher.close(checked_flag("cancel_waiting", cancel_waiting))

    def _checked_tokens(self, token_ids: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """A copy, int64 [tokens]."""
        tokens = np.array(self.predictor.network.checked_ids(token_ids), np.int64)
        if not 1 <= len(tokens) <= self.options.max_tokens:
            raise TokenError(
                f"the request has {counted(len(tokens), 'token')}, expected 1 to {self.options.max_tokens:,}; "
                "split a longer one, one part after the other, or raise max_tokens"
            )
        return tokens

    def _prompt_tokens(self, prompt: str | Sequence[int] | NDArray[np.int64], state: State | None) -> list[int]:
        """The tokens that a text reads before it is written; the state has been checked."""
        vocabulary = self.predictor.vocabulary
        before = [vocabulary.end_of_sentence_id] if state is None else state.pending.ravel().tolist()
        given = self.predictor.network.checked_text_or_ids("prompt", prompt)
        tokens = [*before, *map(int, vocabulary.encode(given) if isinstance(given, str) else given)]
        if not tokens:
            raise TokenError("there is nothing to read: the state has no pending tokens and the prompt is empty")
        return tokens

    def _check_state(self, state: State) -> None:
        self.predictor.network.check_state(state, 1)
        state.require_finite()
        if state.cache is not None:
            raise StateError(
                f"the state has a stream's cache of {counted(len(state.cache), 'pair')}, which a pool would not read; "
                "go on with predictor.stream(state=...), or drop it: dataclasses.replace(state, cache=None)"
            )


def _checked_timeout(timeout_seconds: float | None) -> float:
    seconds = math.inf if timeout_seconds is None else checked_number("timeout_seconds", timeout_seconds)
    if not seconds > 0:
        raise OptionError(f"timeout_seconds is {timeout_seconds}, expected more than 0")
    return seconds


def _require_exact(predictor: Predictor, options: PoolOptions) -> None:
    artifact = predictor.artifact
    reason = "it is not batch-invariant"
    if artifact.batch_invariant:
        difference = first_difference(predictor, options.batch_sizes)
        if difference is None:
            return
        reason = f"it says it is batch-invariant, but here, alone and in {difference}, a stream's numbers differ"
    raise PoolError(
        f"the {artifact.variant} artifact would give a stream other numbers than it gets alone: {reason}; "
        f"{artifact.invariant_instead(predictor.provider)}, or PoolOptions(allow_inexact=True) where small differences "
        "do not matter"
    )

"""Engine: the stream pool that runs one model for all requests."""

import asyncio
import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..runtime.draws.draw import Draw
from ..runtime.errors import PoolError
from ..runtime.generation_plan import GenerationPlan, ruled_out
from ..runtime.pool.generation import NEVER, Generation
from ..runtime.pool.loop_inbox import LoopInbox
from ..runtime.pool.options import PoolOptions
from ..runtime.pool.stream_pool import StreamPool
from ..runtime.predictor import Predictor
from ..runtime.sampling import Sampling
from ..runtime.state import State
from ..runtime.stream import Stream
from ..runtime.text.text_decoder import TextDecoder
from .completions.logprobs import TokenLogprobs, token_logprobs
from .errors import ServeError
from .options import ServeOptions
from .slots import Slots

_SCORE_CHUNK = 32
"""Tokens of one request that is scored, during which others wait: it returns the logits of all positions."""
_GREEDY = Sampling(temperature=0)
_RANDOM = np.random.default_rng(0)
"""Nothing is drawn from it."""


@final
class Engine:
    """Runs the model for many requests at once, in one event loop.

    A request first takes slots, then opens as many streams. A stream that is closed while it runs keeps its place in
    the pool until that call ends, so the pool has more places than there are slots.

    Attributes:
        sha256: The artifact's hash.
        created: When the engine was made, seconds since 1970.
        vocabulary: The model's tokens.
        barred: int64, ids of tokens that are not written: the unknown token, and the words of the option `never`.
        never: With the rule `bpe`: the tokens that would complete a word of that option, which `barred` lacks.
        slots: Bounds the choices of all engines.
        start: The state at the start of a text: an end of sentence is pending, as for `Predictor.stream`.
        pool: Runs the model.
        random: Source of the draws of all choices without a seed.
    """

    def __init__(self, predictor: Predictor, options: ServeOptions, slots: Slots) -> None:
        """Make the pool.

        Raises:
            ServeError: The artifact is not batch-invariant, and the options do not allow that.
            OptionError: `never` holds something that is not a word, or the model reads characters.
            PoolError: The artifact's batch invariance does not hold on this machine, or there is not enough memory.
        """
        artifact = predictor.artifact
        if not (artifact.batch_invariant or options.allow_inexact):
            raise ServeError(
                f"the {artifact.variant} artifact is not batch-invariant: an answer would depend, slightly, on which "
                "others are written at the same time; "
                f"{artifact.invariant_instead(predictor.provider)}, or allow that: --allow-inexact"
            )
        self.sha256 = artifact.sha256
        self.created = int(time.time())
        self.vocabulary = predictor.vocabulary
        self._predictor = predictor
        self.barred, self.never = ruled_out(self.vocabulary, options.never)
        self.slots = slots
        start = [self.vocabulary.end_of_sentence_id]
        self.start = self.with_pending(predictor.initial_state(1), start, TextDecoder(self.vocabulary))
        places = 2 * options.max_choices + 2
        self.pool = StreamPool(
            predictor, PoolOptions(max_streams=places, max_waiting=places, allow_inexact=options.allow_inexact)
        )
        self.random = np.random.default_rng()
        self._probe_lock = asyncio.Lock()

    @property
    def totals(self) -> Counter[str]:
        """Counts since the start, by name."""
        stats = self.pool.stats
        return Counter(
            tokens_read=stats.tokens,
            pool_calls=stats.calls,
            pool_requests=stats.requests,
            pool_padding=stats.padding,
        )

    @contextlib.contextmanager
    def open_stream(self, state: State) -> Iterator[int]:
        """Open a stream of the pool that continues from `state`, without its pending tokens.

        Raises:
            StateError: The state holds NaN or infinity.
        """
        stream = self.pool.open_stream(State(state.model_sha256, state.tensors))
        try:
            yield stream
        finally:
            with contextlib.suppress(PoolError):  # the pool is closed, and its streams with it
                self.pool.close_stream(stream)

    @contextlib.contextmanager
    def write(self, generation: Generation, state: State | None) -> Iterator[None]:
        """Have a text written from a state, without its pending tokens; it ends with the block.

        Raises:
            StateError: The state holds NaN or infinity.
        """
        self.pool.start(generation, None if state is self.start else state)
        try:
            yield
        finally:
            self.pool.cancel(generation)

    @staticmethod
    def with_pending(state: State, tokens: Sequence[int], text: TextDecoder) -> State:
        """The state, with tokens that it has not read yet, after which its text ends."""
        pending = np.array([tokens], np.int64)
        return dataclasses.replace(state, pending=pending, partial=text.partial, letters=text.letters)

    def split(self, tokens: list[int]) -> tuple[list[int], list[int]]:
        """The tokens to read now, maybe none, and those that stay pending where a text ends.

        These are the last one and, with the rule `bpe`, the one before a space: the next word's token may hold it.
        """
        pending = self.vocabulary.spaces.pending(tokens[-1])
        return tokens[:-pending], tokens[-pending:]

    async def read_to_end(self, state: State, tokens: list[int]) -> tuple[State, list[int]]:
        """Read tokens after a state, without its pending ones; returns the state, and the tokens that stay pending.

        Raises:
            PoolError, NumberError: As for `read`.
        """
        before, pending = self.split(tokens)
        if before:
            _, state = await self.read(state, before)
        return state, pending

    def stream(self, state: State, tokens: Sequence[int]) -> Stream:
        """A stream of one owner that has these tokens to run after a state, without its pending ones."""
        return self._predictor.stream(dataclasses.replace(state, pending=np.array([tokens], np.int64)))

    async def read(self, state: State, tokens: Sequence[int]) -> tuple[NDArray[np.float32], State]:
        """Read one or more tokens after a state, without its pending ones.

        Returns:
            The next token's logits, float32 [vocabulary], and the state after the last token.

        Raises:
            PoolError: The call failed, or the pool is closed.
            NumberError: A logit is NaN or infinity.
        """
        seen: list[tuple[NDArray[np.float32], State]] = []

        def watch(_: int, logits: NDArray[np.float32], after: Callable[[], State]) -> bool:
            seen.append((logits.copy(), after()))
            return True

        inbox = LoopInbox.running()
        plan = GenerationPlan(1, Draw(_GREEDY, _RANDOM, self.barred), frozenset())
        generation = Generation(tokens, plan, self.vocabulary, watch=watch, inbox=inbox)
        with self.write(generation, state):
            await inbox.wait([generation], NEVER)
        if generation.error is not None:
            raise generation.error
        logits, after = seen[0]
        return logits, State(after.model_sha256, after.tensors)

    async def score(
        self, stream: int, tokens: Sequence[int], targets: Sequence[int], count: int
    ) -> AsyncIterator[TokenLogprobs]:
        """Read tokens, and score the target that follows each of them; arguments as for `token_logprobs`.

        Raises:
            PoolError: The call failed, or the pool is closed.
            NumberError: A logit is NaN or infinity.
        """
        for chunk, wanted in zip(_chunks(tokens, _SCORE_CHUNK), _chunks(targets, _SCORE_CHUNK), strict=True):
            logits = await self.pool.step_async(stream, chunk, logits_to_keep=None)
            for logprobs in await asyncio.to_thread(token_logprobs, logits, np.array(wanted, np.int64), count):
                yield logprobs

    async def probe(self) -> None:
        """Read one token, to check that the model works.

        Raises:
            PoolError: The call failed, or the pool is closed.
            NumberError: A logit is NaN or infinity.
        """
        async with self._probe_lock:
            await self.read(self.start, [self.vocabulary.end_of_sentence_id])


def _chunks(tokens: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (tokens[start : start + size] for start in range(0, len(tokens), size))

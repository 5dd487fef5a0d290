"""GenerationJob: a text that a pool writes."""

import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, final

from ..arguments import checked_number
from ..errors import OptionError, PoolError, RequestTimeoutError
from ..text.text_decoder import TextDecoder
from .batcher import Batcher
from .generation import NEVER, Generation
from .written_text import WrittenText

if TYPE_CHECKING:
    from .loop_inbox import LoopInbox


@final
class _JobInbox:
    """Wakes the threads, or the task, that wait for one generation."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._loop_inbox: LoopInbox | None = None

    def put(self, generations: Sequence[Generation]) -> None:
        with self._changed:
            self._changed.notify_all()
        if self._loop_inbox is not None:
            self._loop_inbox.put(generations)

    def wait(self, generation: Generation, count: int, seconds: float | None) -> bool:
        """Wait until the generation has `count` tokens or has ended; False if that takes longer than `seconds`."""
        end = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while not generation.has(count):
                generation.want(count)
                if generation.has(count):  # it came before `wanted` was set
                    break
                if not self._changed.wait(None if end is None else max(end - time.monotonic(), 0)):
                    return generation.has(count)
        return True

    async def wait_in_loop(self, generation: Generation, count: int) -> None:
        from .loop_inbox import LoopInbox  # imports asyncio, which callers that await have loaded; others need not

        self._loop_inbox = LoopInbox.running()
        await self._loop_inbox.wait([generation], count)


@final
class GenerationJob:
    """A text that a pool writes beside others. Thread-safe; in asyncio one task reads it.

    Iteration yields pieces of the text, one for each token, as they come, from the start of the text each time; `async
    for` does so in a coroutine. As a context manager it cancels what is not written by the end of the block.

    Example:
        >>> from lmtool.runtime import Predictor, StreamPool
        >>> predictor = Predictor.load("model.onnx")
        >>> with StreamPool(predictor) as pool:
        ...     jobs = [pool.generate("the", max_tokens=5, seed=seed) for seed in range(3)]
        ...     texts = [job.result() for job in jobs]
        >>> stream = predictor.stream()
        >>> stream.feed("the")
        >>> "".join(stream.generate(max_tokens=5, seed=0)) == texts[0]
        True
    """

    def __init__(
        self, batcher: Batcher, generation: Generation, prompt: TextDecoder, written: WrittenText | None
    ) -> None:
        """Use `StreamPool.generate`; `prompt`: the decoder at the end of the prompt; `written`: with stops."""
        self._batcher = batcher
        self._generation = generation
        self._prompt = prompt
        self._written = written
        self._inbox = generation.inbox = _JobInbox()

    def __repr__(self) -> str:
        state = self.finish_reason or ("failed" if self.done else "running")
        return f"<GenerationJob {state}: {len(self.tokens)} tokens>"

    def __enter__(self) -> "GenerationJob":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the job if it has not ended."""
        self.cancel()

    @property
    def tokens(self) -> tuple[int, ...]:
        """The ids of the tokens that have been written so far; with `stop`, in full and not a part of one."""
        return tuple(self._generation.tokens[: None if self._written is None else self._written.kept])

    @property
    def done(self) -> bool:
        """Whether the text has ended, or the job has failed."""
        return self._generation.has_ended

    @property
    def finish_reason(self) -> str | None:
        """`length` after `max_tokens`, `stop` before a stop; None before the end and after an error."""
        return self._generation.finish_reason

    def __iter__(self) -> Iterator[str]:
        """The pieces of the text, as `Stream.generate` yields them.

        Raises:
            CancelledError: The job was cancelled (`concurrent.futures`).
            RequestTimeoutError: It took longer than its `timeout_seconds`.
            NumberError: A logit is NaN or infinite.
            PoolError: A call failed, or the pool was closed.
        """
        count, decoder = 0, self._prompt.copy()
        while True:
            self._wait(count + 1, None)
            pieces = self._pieces_from(count, decoder)
            if not pieces:
                return
            yield from pieces
            count += len(pieces)

    async def __aiter__(self) -> AsyncIterator[str]:
        """As `__iter__`, for asyncio."""
        count, decoder = 0, self._prompt.copy()
        while True:
            await self._wait_async(count + 1)
            pieces = self._pieces_from(count, decoder)
            if not pieces:
                return
            for piece in pieces:
                yield piece
            count += len(pieces)

    def result(self, timeout_seconds: float | None = None) -> str:
        """Wait for the end, and return the text.

        Args:
            timeout_seconds: How long to wait; None for no limit. The job goes on after that.

        Raises:
            RequestTimeoutError: The text has not ended within `timeout_seconds`, or the job's own.
            CancelledError: As for iteration; also its other errors.
        """
        seconds = None if timeout_seconds is None else checked_number("timeout_seconds", timeout_seconds)
        if seconds is not None and not seconds >= 0:
            raise OptionError(f"timeout_seconds is {timeout_seconds}, expected 0 or more")
        self._wait(NEVER, seconds)
        return self._text()

    async def result_async(self) -> str:
        """`result` for asyncio; cancelling the task cancels the job.

        Raises:
            CancelledError: As for iteration; also its other errors.
        """
        try:
            await self._wait_async(NEVER)
        finally:
            self.cancel()
        return self._text()

    def cancel(self) -> bool:
        """End the job, at the latest after the call that runs; False if it has ended.

        Raises:
            ForkError: The pool was made in another process.
        """
        return self._batcher.cancel(self._generation)

    def _wait(self, count: int, seconds: float | None) -> None:
        """Wait until there are `count` tokens, or the text has ended."""
        if self._generation.has(count):
            return
        self._batcher.require_same_process()
        if self._batcher.is_own_thread:
            raise PoolError("a job was waited for in the pool's own thread, which would wait for itself; use cancel()")
        if not self._inbox.wait(self._generation, count, seconds):
            raise RequestTimeoutError(
                f"the text has not ended within {seconds:g} s; it goes on: ask for the result again, or cancel"
            )

    async def _wait_async(self, count: int) -> None:
        if not self._generation.has(count):
            self._batcher.require_same_process()
            await self._inbox.wait_in_loop(self._generation, count)

    def _text(self) -> str:
        self._require_success()
        return "".join(self._pieces_from(0, self._prompt.copy()))

    def _pieces_from(self, count: int, decoder: TextDecoder) -> list[str]:
        """The pieces after the first `count` tokens, which the decoder has read; none at the end of the text.

        Raises the error if it failed.
        """
        tokens = self._generation.tokens[count:]
        if not tokens:
            self._require_success()
            return []
        if self._written is not None:
            return self._written.pieces[count : count + len(tokens)]
        return list(map(decoder.add, tokens))

    def _require_success(self) -> None:
        if self._generation.error is not None:
            raise self._generation.error

"""A text that the batcher writes: its prompt is read in chunks, then a token is drawn after each call."""

import math
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, final

import numpy as np
from numpy.typing import NDArray

from ..generation_plan import GenerationPlan
from ..text.text_decoder import TextDecoder
from ..vocabulary import Vocabulary

if TYPE_CHECKING:
    from ..state import State

MAX_CHUNK = 64
"""Tokens of a prompt that one call reads, so that the texts that are being written do not wait for long."""

NEVER = 2**63
"""A number of tokens that no text reaches."""

_WANTS = threading.Lock()
"""Held while a thread lowers `Generation.wanted`."""

Watch = Callable[[int, NDArray[np.float32], Callable[[], "State"]], bool]
"""Sees each token in the pool's thread, and returns whether the text ends with it.

Arguments: the token; the logits that it was drawn from, float32 [vocabulary], valid during the call; a function that
returns the state after all tokens before it, with it as the pending token."""


class Inbox(Protocol):
    """Is told about news of generations."""

    def put(self, generations: "Sequence[Generation]") -> None:
        """Take the news of one call: each has its `wanted` number of tokens, or has ended.

        It runs in the pool's thread, without locks, and must be short.
        """


@final
class Generation:
    """One text. Its fields belong to the batcher; other threads may read `tokens` and those named after it.

    Attributes:
        slot: Row of the state.
        token_ids: Tokens that the next call reads.
        kept: Logits are computed for one position.
        draws: Whether a token is drawn after the next call.
        enqueued_at: `time.monotonic` seconds when the next call became possible.
        deadline: The text ends with an error if it is not written by then.
        draw: How tokens are drawn.
        tokens: Drawn tokens; it only grows.
        ending: `length`, `stop` before a stop token or where `watch` says so, or an error; known before the stream is
            closed.
        finish_reason: `length` or `stop` once the stream is closed; None before, and after an error.
        error: Why the text ended early.
        is_cancelled: Whether it has to end after the call that runs.
        wanted: The inbox is told once there are this many tokens; at the end in any case.
        inbox: Is told.
    """

    is_job = True
    kept = 1

    def __init__(
        self,
        prompt: Sequence[int],
        plan: GenerationPlan,
        vocabulary: Vocabulary,
        *,
        text: TextDecoder | None = None,
        deadline: float = math.inf,
        watch: Watch | None = None,
        inbox: Inbox | None = None,
    ) -> None:
        """The arguments have been checked.

        Args:
            prompt: One or more token ids.
            plan: How tokens are drawn, and where the text ends.
            vocabulary: The model's tokens.
            text: At the end of the prompt, not changed; if it `takes_space`, that is not in `prompt`.
            deadline: `time.monotonic` seconds.
            watch: Called with every token.
            inbox: Is told about tokens.
        """
        self.slot = -1
        self.token_ids: Sequence[int] = ()
        self.draws = False
        self.enqueued_at = 0.0
        self.deadline = deadline
        self.draw = plan.draw
        self.tokens: list[int] = []
        self.ending: str | Exception | None = None
        self.finish_reason: str | None = None if plan.max_tokens else "length"
        self.error: Exception | None = None
        self.is_cancelled = False
        self.wanted = NEVER
        self.inbox = inbox
        self._prompt = prompt
        self._read = 0  # tokens of the prompt
        self._limit = plan.max_tokens
        self._stop_ids = plan.stop_ids
        self._watch = watch
        self._vocabulary = vocabulary
        self._plan = plan
        self._text = None
        takes_space = text is not None and text.takes_space
        if text is not None and (takes_space or plan.depends_on_text):
            self._text = text.copy()
            plan.close_tokens(text)
        sampling = plan.draw.sampling
        depends_on_text = sampling.repetition_penalty != 1 or sampling.method == "weighted-at-boundaries"
        self._updates_draw = depends_on_text or self._text is not None
        self.draw.at_boundary = takes_space or vocabulary.is_boundary(prompt[-1])
        self.advance()

    @property
    def has_ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.finish_reason is not None or self.error is not None

    def want(self, count: int) -> None:
        """Have the inbox told once there are `count` tokens, or earlier where another thread wants fewer."""
        with _WANTS:
            self.wanted = min(self.wanted, count)

    def has(self, count: int) -> bool:
        """Whether there are `count` tokens, or the text has ended."""
        return len(self.tokens) >= count or self.has_ended

    def advance(self) -> None:
        """Make the next part of the prompt the tokens to read.

        Parts are powers of two, so that prompts of any length share calls, and their calls have few shapes.
        """
        start, unread = self._read, len(self._prompt) - self._read
        self._read += min(1 << (unread.bit_length() - 1), MAX_CHUNK)
        self.token_ids = self._prompt[start : self._read]
        self.draws = self._read == len(self._prompt)

    def take(self, token: int, logits: NDArray[np.float32], state: "Callable[[], State]") -> None:
        """Add a token that was drawn; sets `ending` at the end."""
        if token in self._stop_ids:
            self.ending = "stop"
            return
        if self._watch is not None:
            self._ask_watch(self._watch, token, logits, state)
        self.tokens.append(token)  # now others see it, after what the watch made of it
        self.token_ids = (token,)
        if self._updates_draw:
            self._update_draw(token)
        if self.ending is None and len(self.tokens) >= self._limit:
            self.ending = "length"

    def close(self) -> None:
        """Make the end known: the stream is closed."""
        if isinstance(self.ending, str):
            self.finish_reason = self.ending
        else:
            self.error = self.ending

    def _ask_watch(self, watch: Watch, token: int, logits: NDArray[np.float32], state: "Callable[[], State]") -> None:
        try:
            if watch(token, logits, state):
                self.ending = "stop"
        except Exception as error:  # it ends this text only
            self.ending = error

    def _update_draw(self, token: int) -> None:
        if token != self._vocabulary.end_of_sentence_id:
            self.draw.recent.append(token)
        self.draw.at_boundary = self._vocabulary.is_boundary(token)
        if self._text is not None:
            self._text.add(token)
            self._plan.close_tokens(self._text)

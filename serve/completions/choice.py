"""Choice: one text of a completion, which the pool writes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from ...runtime.draws.draw import Draw
from ...runtime.generation_plan import GenerationPlan
from ...runtime.pool.generation import Generation
from ...runtime.pool.loop_inbox import LoopInbox
from ...runtime.state import State
from ...runtime.text.stops import Rollback
from ...runtime.text.text_decoder import TextDecoder
from ..engine import Engine
from ..schemas import CompletionRequest
from ..sessions import SessionState
from .logprobs import token_logprobs
from .stop_buffer import StopBuffer, Token


@final
@dataclass(frozen=True)
class Delta:
    """The latest part of a choice: tokens that no stop string can cut off, and the finish reason if it has ended.

    `blank` is text before these tokens that belongs to none: an echoed prompt of white space only.
    """

    index: int
    tokens: Sequence[Token]
    finish_reason: str | None = None
    blank: str = ""


@final
class Choice:
    """Has a text written after a prompt, as `Stream.generate` writes it with the same random generator.

    Stop strings, log-probabilities and the states of a session need each token when it is drawn: `_watch` then makes
    the tokens, in the pool's thread. Without them the text is made when it is taken.

    Attributes:
        index: Which choice of the response it is.
        finish_reason: "stop" or "length" once it has ended and all of it was taken.
    """

    def __init__(
        self,
        engine: Engine,
        index: int,
        request: CompletionRequest,
        draw: Draw,
        prompt: Sequence[int],
        end: int,
        text_end: TextDecoder,
        rollback: Rollback[SessionState] | None,
        read: int,
    ) -> None:
        """Nothing runs yet.

        Args:
            engine: Runs the model.
            index: Which choice of the response it is.
            request: The client's request.
            draw: How tokens are drawn.
            prompt: The tokens that the stream has to read first, the last one of the prompt among them; without the
                space that the first token takes.
            end: End of the echoed prompt's text.
            text_end: A decoder at the end of the prompt.
            rollback: Collects the states of a session.
            read: Tokens of a session's text up to here, without that space.
        """
        self.index = index
        self.finish_reason: str | None = None
        self._request = request
        self._end = end
        self._text = text_end
        self._rollback = rollback
        self._read = read
        self._written: list[Token] = []
        self._made = self._taken = 0
        is_watched = bool(request.stops) or request.logprobs is not None or rollback is not None
        self._buffer = StopBuffer(request.stops, end) if is_watched else None
        self.generation = Generation(
            prompt,
            GenerationPlan(request.max_tokens, draw, never=engine.never),
            engine.vocabulary,
            text=text_end,
            watch=self._watch if is_watched else None,
            inbox=LoopInbox.running(),
        )

    def take(self) -> Delta:
        """What was written since the last call."""
        reason = self.generation.finish_reason  # first: all tokens are there if it has ended
        self.finish_reason = reason
        if self._buffer is None:
            return Delta(self.index, self._joined(self.generation.tokens[self._made :]), reason)
        tokens = self._written[self._taken :]
        self._taken += len(tokens)
        return Delta(self.index, tokens, reason)

    def _joined(self, tokens: list[int]) -> list[Token]:
        """The tokens as one with all of their text: only log-probabilities tell them apart."""
        if not tokens:
            return []
        made = Token("".join(map(self._text.add, tokens)), self._end, tokens[-1])
        self._end = made.end
        self._made += len(tokens)
        return [made]

    def _watch(self, token: int, logits: NDArray[np.float32], state: Callable[[], State]) -> bool:
        """Make the next token in the pool's thread; returns whether a stop string is complete."""
        assert self._buffer is not None
        made = self._next_token(token, logits)
        self._written += self._buffer.push(made)
        is_last = self._made == self._request.max_tokens
        is_whole = is_last and not self._buffer.stopped
        if is_whole:
            self._written += self._buffer.finish()
        if self._rollback is not None and (is_last or self._request.stops):
            partial, letters = self._text.partial, self._text.letters
            after = SessionState(replace(state(), partial=partial, letters=letters), self._read + self._made)
            self._rollback.add(after, made.end, self._buffer.sure_end, within_character=bool(partial))
            if is_whole:
                self._rollback.finish()
        return self._buffer.stopped

    def _next_token(self, token: int, logits: NDArray[np.float32]) -> Token:
        """The token that was drawn next. Barred tokens have their share of the reported probabilities."""
        before = logprobs = None
        if self._request.logprobs is not None:
            before = self._text.copy()
            closed = before.vocabulary.spaces.others if before.takes_space else None
            (logprobs,) = token_logprobs(logits[None], np.array([token]), self._request.logprobs, closed)
        made = Token(self._text.add(token), self._end, token, before, logprobs)
        self._end = made.end
        self._made += 1
        return made

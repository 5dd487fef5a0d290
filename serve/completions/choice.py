"""Choice: one text of a completion, which its stream writes token by token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from ...runtime.sampling import Sampling
from ...runtime.state import State
from ...runtime.token_sampler import Draw, TokenSampler
from ..engine import Engine
from ..schemas import CompletionRequest
from .bias import LogitBias
from .logprobs import token_logprobs
from .stop import StopBuffer, Token


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


def choice_random(seed: int | None, number: int) -> np.random.Generator:
    """The random generator of a prompt's choice `number`.

    Choice 0 uses `seed`, so it draws the tokens of `Stream.generate`; the others use `[seed, number]`.
    """
    if seed is None:
        return np.random.default_rng()
    return np.random.default_rng([seed, number] if number else seed)


@final
@dataclass(eq=False)
class Choice:
    """Draws tokens after a prompt, as `Stream.generate` does with the same random generator.

    Attributes:
        engine: Runs the model.
        index: Which choice of the response it is.
        stream: The choice's stream, which has read the prompt.
        request: The client's request.
        sampling: How tokens are drawn.
        bias: Added to the logits before a draw.
        random: Random generator of the draws.
        logits: float32 [vocabulary], of the next token.
        last_token: The prompt's last token, then the last one that was drawn.
        end: End of the text of all tokens, including those that are held back.
        after_space: Whether the prompt ends in white space.
        finish_reason: "stop" or "length" once it has ended.
        generated: Number of tokens drawn.
    """

    engine: Engine
    index: int
    stream: int
    request: CompletionRequest
    sampling: Sampling
    bias: LogitBias | None
    random: np.random.Generator
    logits: NDArray[np.float32]
    last_token: int
    end: int
    after_space: bool = False
    finish_reason: str | None = None
    generated: int = 0

    def __post_init__(self) -> None:
        self._buffer = StopBuffer(self.request.stops, self.end)
        bias = None if self.bias is None else self.bias.values
        self._draw = Draw(self.sampling, self.random, np.array(self.engine.barred, np.int64), bias)

    @property
    def state(self) -> State:
        """The state after the last token that was drawn, which is pending."""
        return self.engine.state(self.stream, pending=self.last_token)

    @property
    def sure_end(self) -> int:
        """End of the text that no stop string can cut off."""
        return self._buffer.sure_end

    def draw(self) -> Delta:
        """Draw the next token, unless `max_tokens` is 0; the model does not run."""
        tokens: list[Token] = []
        if self.request.max_tokens:
            tokens += self._buffer.push(self._draw_token())
        if self._buffer.stopped:
            self.finish_reason = "stop"
        elif self.generated >= self.request.max_tokens:
            self.finish_reason = "length"
            tokens += self._buffer.finish()
        return Delta(self.index, tokens, self.finish_reason)

    async def read(self) -> None:
        """Read the last token that was drawn.

        Raises:
            PoolError: The call failed.
        """
        self.logits = await self.engine.read(self.stream, [self.last_token])

    def _draw_token(self) -> Token:
        """Draw a token. Barred tokens are never drawn, but have their share of the reported probabilities."""
        vocabulary = self.engine.vocabulary
        drawn = TokenSampler(len(vocabulary)).choose_one(self.logits, self._draw)
        if drawn != vocabulary.end_of_sentence_id:  # as in `Stream.generate`
            self._draw.recent.append(drawn)
        logprobs = None
        if self.request.logprobs is not None:
            (logprobs,) = token_logprobs(self.logits[None], np.array([drawn]), self.request.logprobs)
        previous = None if self.after_space and not self.generated else self.last_token
        token = Token(vocabulary.piece(drawn, previous), self.end, drawn, previous, logprobs)
        self.last_token, self.end = drawn, token.end
        self.generated += 1
        return token

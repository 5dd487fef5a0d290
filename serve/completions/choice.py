"""One choice of a completion: tokens are drawn one after the other, each of them read by the choice's own stream."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

from ...runtime.sampling import Sampling
from ..engine import Engine
from ..sessions import Snapshot
from .logprobs import score_rows
from .prompt import Place
from .stop import HeldTokens, Token


@final
@dataclass(frozen=True)
class ChoiceOptions:
    """How the tokens of a choice are chosen.

    Attributes:
        sampling: Temperature and top-p.
        max_tokens: How many tokens at most.
        stops: Text ends before the first of these.
        log_probs: How many of the most probable tokens to name beside each; None for no log-probabilities at all.
    """

    sampling: Sampling
    max_tokens: int
    stops: list[str] = field(default_factory=list)
    log_probs: int | None = None


@final
@dataclass(frozen=True)
class Delta:
    """What a choice has got since its last delta: tokens that are sure, and why it ended where it has.

    `blank` is text before these tokens that belongs to none: an echoed prompt of white space only.
    """

    index: int
    tokens: Sequence[Token]
    finish_reason: str | None = None
    blank: str = ""


def random_of(seed: int | None, number: int) -> np.random.Generator:
    """The source of a prompt's choice `number`: numpy's default generator.

    Its seed is `seed` itself for choice 0, so that it draws what `Stream.generate` draws, and `[seed, number]` for the
    others. Without a seed every choice is drawn anew each time.
    """
    if seed is None:
        return np.random.default_rng()
    return np.random.default_rng([seed, number] if number else seed)


@final
class Choice:
    """Draws tokens, as `Stream.generate` would with the same source."""

    def __init__(
        self,
        engine: Engine,
        index: int,
        stream: int,
        options: ChoiceOptions,
        random: np.random.Generator,
        logits: NDArray[np.float32],
        previous: int | None,
        offset: int,
    ) -> None:
        """Go on after a prompt.

        Args:
            engine: Runs the model.
            index: Which choice of the answer it is.
            stream: The choice's stream, which has read the prompt.
            options: How tokens are chosen.
            random: Where draws come from.
            logits: float32 [vocabulary], of the first token.
            previous: The prompt's last token.
            offset: Where the choice's own text begins in the text that is sent.
        """
        self.index = index
        self.finish_reason: str | None = None
        self.generated = 0
        self._engine = engine
        self._stream = stream
        self._options = options
        self._random = random
        self._logits = logits
        self._previous = previous
        self._offset = offset
        self._held = HeldTokens(options.stops, offset)

    @property
    def last_snapshot(self) -> Snapshot:
        """The text up to the token that was drawn last, which the stream has not read."""
        assert self._previous is not None
        return Snapshot(self._engine.pool.state(self._stream), Place((self._previous,), self._previous))

    @property
    def kept_end(self) -> int:
        """Where the text ends that is sure to be sent."""
        return self._held.kept_end

    @property
    def end(self) -> int:
        """Where the text of all tokens ends, those that wait included."""
        return self._offset

    def draw(self) -> Delta:
        """Choose the next token; nothing runs. With `max_tokens` of 0 there is none."""
        tokens: list[Token] = []
        if self._options.max_tokens:
            tokens += self._held.push(self._draw_token())
        if self._held.stopped:
            self.finish_reason = "stop"
        elif self.generated >= self._options.max_tokens:
            self.finish_reason = "length"
            tokens += self._held.finish()
        return Delta(self.index, tokens, self.finish_reason)

    async def read(self) -> None:
        """Read the token that was drawn last.

        Raises:
            PoolError: The call failed.
        """
        assert self._previous is not None
        self._logits = await self._engine.read(self._stream, [self._previous])

    def _draw_token(self) -> Token:
        """The unknown token is never drawn, though it has its share of the probabilities that are told."""
        vocabulary = self._engine.vocabulary
        logits = self._logits.copy()
        logits[vocabulary.unknown_id] = -np.inf
        with np.errstate(over="ignore"):  # of a temperature near 0, where the others' weights become 0
            chosen = self._options.sampling.choose(logits, self._random, at_boundary=True)
        scored = None
        if self._options.log_probs is not None:
            (scored,) = score_rows(self._logits[None], np.array([chosen]), self._options.log_probs)
        token = Token(vocabulary.piece(chosen, self._previous), self._offset, chosen, self._previous, scored)
        self._previous, self._offset = chosen, token.end
        self.generated += 1
        return token

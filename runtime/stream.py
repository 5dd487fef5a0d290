"""One text stream: text goes in, suggestions and new text come out; its state can be kept, forked, restored."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from .errors import OptionError, StateError
from .sampling import Sampling, log_softmax
from .state import State

if TYPE_CHECKING:
    from .predictor import Predictor

_FLUSH_AT = 512


@final
class Stream:
    """A reader and writer of one text. It belongs to one thread at a time.

    Text that is fed runs when a prediction is asked for, or when a few hundred tokens have gathered, in one call that
    computes one position's logits; so feeding word by word costs no more than feeding a page.
    """

    def __init__(self, predictor: "Predictor", state: State) -> None:
        """Use `Predictor.stream`."""
        self._predictor = predictor
        self._tensors = State(state.model_sha256, state.tensors)
        self._pending: list[int] = state.pending[0].tolist() if state.pending.size else []
        self._previous: int | None = self._pending[-1] if self._pending else None
        self._ahead: tuple[NDArray[np.float32], State] | None = None

    @property
    def state(self) -> State:
        """A snapshot; `predictor.stream(state=...)` goes on from it, here or, by way of bytes, in another process."""
        pending = np.array([self._pending], np.int64).reshape(1, -1)
        return State(self._tensors.model_sha256, self._tensors.tensors, pending)

    def feed(self, text: str) -> None:
        """Append text; a newline ends the sentence."""
        self.feed_ids(self._predictor.vocabulary.encode(text))

    def feed_ids(self, token_ids: Sequence[int]) -> None:
        """Append tokens.

        Raises:
            TokenError: An id lies outside the vocabulary; nothing was appended.
        """
        ids = self._predictor.checked_ids(token_ids).tolist()
        if not ids:
            return
        if self._ahead is not None:
            self._tensors, self._pending, self._ahead = self._ahead[1], [], None
        self._pending.extend(ids)
        self._previous = ids[-1]
        while len(self._pending) > _FLUSH_AT:
            self._tensors = self._predictor.step([self._pending[:_FLUSH_AT]], self._tensors, logits_to_keep=1)[1]
            del self._pending[:_FLUSH_AT]

    def logits(self) -> NDArray[np.float32]:
        """Logits of the next token, float32 [vocabulary].

        Raises:
            StateError: The stream began from a state that `Predictor.step` returned, and nothing was fed since.
        """
        if self._ahead is None and not self._pending:
            raise StateError(
                "nothing was fed since this state was returned by a step, so there is no next token to predict; "
                "feed a token, or begin from the state of a stream, which keeps its last token"
            )
        if self._ahead is None:
            logits, state = self._predictor.step([self._pending], self._tensors, logits_to_keep=1)
            self._ahead = (logits[0, -1], state)
        return self._ahead[0]

    def suggest(self, k: int = 5, *, allow_unknown: bool = False) -> list[tuple[str, float]]:
        """The k most probable next tokens with their probabilities, most probable first.

        The unknown token is left out unless `allow_unknown`; the probabilities are the model's own all the same.

        Raises:
            OptionError: `k` is below 1.
        """
        if k < 1:
            raise OptionError(f"k is {k}, expected 1 or more")
        vocabulary = self._predictor.vocabulary
        log_probs = log_softmax(self.logits())
        order = np.argsort(-log_probs, kind="stable")[: k + 1].tolist()
        chosen = [index for index in order if allow_unknown or index != vocabulary.unknown_id][:k]
        return [(vocabulary.token(index), float(np.exp(log_probs[index]))) for index in chosen]

    def generate(
        self,
        max_tokens: int = 20,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        method: str = "weighted",
        seed: int | None = None,
        allow_unknown: bool = False,
        stop_at_end_of_sentence: bool = False,
    ) -> Iterator[str]:
        r"""Write on: choose a token, feed it, yield what it adds to the text, `max_tokens` times.

        Args:
            max_tokens: How many tokens to choose.
            temperature: See `Sampling`, as for `top_k`, `top_p`, `method` and `allow_unknown`.
            top_k: See `Sampling`.
            top_p: See `Sampling`.
            method: See `Sampling`.
            seed: Makes the draws repeatable; None draws anew each time.
            allow_unknown: See `Sampling`.
            stop_at_end_of_sentence: End before the first end-of-sentence token (it is not fed).

        Raises:
            OptionError: An argument is outside its range.
        """
        if max_tokens < 0:
            raise OptionError(f"max_tokens is {max_tokens}, expected 0 or more")
        if seed is not None and seed < 0:
            raise OptionError(f"seed is {seed}, expected 0 or more")
        sampling = Sampling(method, temperature, top_k, top_p, allow_unknown)
        return self._generate(max_tokens, sampling, np.random.default_rng(seed), stop_at_end_of_sentence)

    def _generate(
        self, max_tokens: int, sampling: Sampling, random: np.random.Generator, stop_at_end: bool
    ) -> Iterator[str]:
        vocabulary = self._predictor.vocabulary
        for _ in range(max_tokens):
            logits = self.logits()
            if not sampling.allow_unknown:
                logits = logits.copy()
                logits[vocabulary.unknown_id] = -np.inf
            token_id = sampling.choose(logits, random, self._at_boundary())
            if stop_at_end and token_id == vocabulary.end_of_sentence_id:
                return
            piece = vocabulary.piece(token_id, self._previous)
            self.feed_ids([token_id])
            yield piece

    def _at_boundary(self) -> bool:
        vocabulary = self._predictor.vocabulary
        if vocabulary.tokenization.unit == "word" or self._previous is None:
            return True
        return vocabulary.token(self._previous).isspace()

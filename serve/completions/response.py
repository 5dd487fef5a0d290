"""Completions as OpenAI's clients read them: whole, or in the chunks of a stream."""

import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Any, final

from ...runtime.vocabulary import Vocabulary
from .choice import Delta
from .completion import Completion
from .stop import Token


@final
class Answer:
    """The JSON of one completion.

    A choice's tokens together are its text, and `text_offset` counts in that text; only an echoed prompt of white space
    is text before the first token. The prompt's first token has a
    log-probability of its own, because a text begins where a sentence has ended; it has none (null) only where the
    prompt came as ids and began with the end of a sentence.
    """

    def __init__(self, name: str, vocabulary: Vocabulary, completion: Completion, with_log_probs: bool) -> None:
        """Begin.

        Args:
            name: The model's.
            vocabulary: Where the tokens' texts are.
            completion: What counts the tokens.
            with_log_probs: Whether log-probabilities were asked for.
        """
        self._vocabulary = vocabulary
        self._completion = completion
        self._with_log_probs = with_log_probs
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": name,
        }

    def whole(self, deltas: Iterable[Delta]) -> dict[str, Any]:
        """The answer to a request that was not streamed."""
        tokens: dict[int, list[Token]] = {}
        blanks: dict[int, str] = {}
        reasons: dict[int, str | None] = {}
        for delta in deltas:
            tokens.setdefault(delta.index, []).extend(delta.tokens)
            blanks.setdefault(delta.index, delta.blank)
            reasons[delta.index] = delta.finish_reason
        choices = [self._choice(index, blanks[index], tokens[index], reasons[index]) for index in sorted(tokens)]
        return {**self._head, "choices": choices, "usage": self._usage()}

    def chunk(self, delta: Delta, with_usage: bool) -> dict[str, Any]:
        """One chunk of a stream; `usage` is null in all but the last, and there only where it was asked for."""
        choices = [self._choice(delta.index, delta.blank, delta.tokens, delta.finish_reason)]
        return {**self._head, "choices": choices, **({"usage": None} if with_usage else {})}

    def usage_chunk(self) -> dict[str, Any]:
        """The last chunk of a stream with usage: no choices, only that."""
        return {**self._head, "choices": [], "usage": self._usage()}

    def _usage(self) -> dict[str, int]:
        read, written = self._completion.prompt_tokens, self._completion.completion_tokens
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def _choice(self, index: int, blank: str, tokens: Sequence[Token], finish_reason: str | None) -> dict[str, Any]:
        return {
            "index": index,
            "text": blank + "".join(token.text for token in tokens),
            "logprobs": self._log_probs(tokens) if self._with_log_probs else None,
            "finish_reason": finish_reason,
        }

    def _log_probs(self, tokens: Sequence[Token]) -> dict[str, Any]:
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [None if token.scored is None else token.scored.log_prob for token in tokens],
            "top_logprobs": [self._top(token) for token in tokens],
            "text_offset": [token.offset for token in tokens],
        }

    def _top(self, token: Token) -> dict[str, float] | None:
        """The most probable tokens at this place by their texts, and the token itself wherever it stands."""
        if token.scored is None:
            return None
        top = {}
        for token_id, log_prob in token.scored.top:
            is_own = token_id == token.token_id
            top[token.text if is_own else self._vocabulary.piece(token_id, token.previous)] = log_prob
        return {**top, token.text: token.scored.log_prob}

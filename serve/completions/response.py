"""Completions as the JSON that OpenAI's clients read: whole, or in the chunks of a stream."""

import random
import time
from collections.abc import Iterable, Sequence
from typing import Any, final

from .choice import Delta
from .completion import Completion
from .stop_buffer import Token

_FINGERPRINT_DIGITS = 12
_RANDOM = random.Random()  # for ids that differ; they are no secret


@final
class CompletionResponse:
    """The JSON of one completion.

    A choice's text consists of its tokens, after an echoed prompt of white space only. `text_offset` counts in that
    text. The first token of a prompt has a log-probability, because a text begins after an end of sentence; it is null
    only if the prompt was sent as ids and begins with the end of sentence itself.
    """

    def __init__(self, name: str, completion: Completion, with_logprobs: bool) -> None:
        """`name` is the model's; `completion` counts the tokens."""
        self._vocabulary = completion.engine.vocabulary
        self._completion = completion
        self._with_logprobs = with_logprobs
        self._head = {
            "id": f"cmpl-{_RANDOM.getrandbits(96):024x}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": name,
            "system_fingerprint": completion.engine.sha256[:_FINGERPRINT_DIGITS],
        }

    def whole(self, deltas: Iterable[Delta]) -> dict[str, Any]:
        """The response to a request that is not streamed."""
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
        """One chunk of a stream; with usage, it is null in all but the last."""
        choices = [self._choice(delta.index, delta.blank, delta.tokens, delta.finish_reason)]
        return {**self._head, "choices": choices, **({"usage": None} if with_usage else {})}

    def usage_chunk(self) -> dict[str, Any]:
        """The last chunk of a stream with usage; it has no choices."""
        return {**self._head, "choices": [], "usage": self._usage()}

    def _usage(self) -> dict[str, int]:
        prompt, completion = self._completion.prompt_tokens, self._completion.completion_tokens
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _choice(self, index: int, blank: str, tokens: Sequence[Token], finish_reason: str | None) -> dict[str, Any]:
        return {
            "index": index,
            "text": blank + "".join(token.text for token in tokens),
            "logprobs": self._logprobs(tokens) if self._with_logprobs else None,
            "finish_reason": finish_reason,
        }

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, Any]:
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [None if token.logprobs is None else token.logprobs.log_prob for token in tokens],
            "top_logprobs": [self._top(token) for token in tokens],
            "text_offset": [token.offset for token in tokens],
        }

    def _top(self, token: Token) -> dict[str, float] | None:
        """The most probable tokens at this position by their texts, and the token itself in any case."""
        if token.logprobs is None or token.before is None:
            return None
        top = {}
        for token_id, log_prob in token.logprobs.top:
            is_own = token_id == token.token_id
            text = token.text if is_own else token.before.copy().add(token_id) or self._vocabulary.text(token_id)
            top[text] = log_prob
        return {**top, token.text: token.logprobs.log_prob}

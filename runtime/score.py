"""Scores of a text: the log-probability of every token, their sum and the perplexity."""

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .errors import NumberError
from .vocabulary import Vocabulary

_MOST_PLAIN = 1e6


@final
@dataclass(frozen=True)
class Score:
    """The scored tokens of one text.

    Attributes:
        tokens: The text's tokens; those outside the vocabulary as the unknown token.
        token_log_probs: Natural log-probability of each token given all before it. A tuple, because small arrays
            between the large ones of the network would keep the memory around them from being freed.
        unknown: The number of tokens outside the vocabulary.
    """

    tokens: tuple[str, ...]
    token_log_probs: tuple[float, ...]
    unknown: int

    @classmethod
    def of(
        cls, token_ids: NDArray[np.integer[Any]], token_log_probs: NDArray[np.float64], vocabulary: Vocabulary
    ) -> "Score":
        """The score of token ids [tokens] from their log-probabilities [tokens]."""
        tokens = tuple(vocabulary.token(index) for index in token_ids.tolist())
        unknown = int((token_ids == vocabulary.unknown_id).sum())
        return cls(tokens, tuple(token_log_probs.tolist()), unknown)

    def __repr__(self) -> str:
        return (
            f"<Score of {len(self.tokens):,} tokens ({self.unknown:,} unknown): "
            f"log_prob {self.log_prob:.3f}, perplexity {self.perplexity:.2f}>"
        )

    @property
    def log_prob(self) -> float:
        """Natural log-probability of the whole text; 0 for an empty one."""
        return math.fsum(self.token_log_probs)

    @property
    def perplexity(self) -> float:
        """exp(-log_prob / number of tokens); 1 for an empty text."""
        return perplexity(self.log_prob, len(self.tokens))

    def to_json(self) -> dict[str, Any]:
        """The score as JSON values."""
        return {
            "tokens": list(self.tokens),
            "token_log_probs": list(self.token_log_probs),
            "log_prob": self.log_prob,
            "perplexity": self.perplexity,
            "unknown": self.unknown,
        }


def perplexity(log_prob: float, count: int) -> float:
    """exp(-log_prob / count), infinite where that overflows; 1 for no tokens."""
    if count == 0:
        return 1.0
    try:
        return math.exp(-log_prob / count)
    except OverflowError:
        return math.inf


def format_perplexity(value: float, decimals: int = 2) -> str:
    """A perplexity as text: `65.44`; above a million `1.23e+06`."""
    return f"{value:.{decimals}{'f' if value < _MOST_PLAIN else 'e'}}"


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural log-probabilities along the last axis, in float64; same shape as `logits`."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def target_log_probs(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Natural log-probability of one token at each position, float64 [time].

    Works in place and in float32, which is three times as fast as a float64 log-softmax over the whole vocabulary.

    Args:
        logits: float32 [time, vocabulary]; overwritten.
        targets: int64 [time].
    """
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity propagate; callers check the result
        largest = logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(len(targets)), targets] - largest[:, 0]
        np.subtract(logits, largest, out=logits)
        np.exp(logits, out=logits)
        return np.asarray(chosen - np.log(logits.sum(axis=1)), np.float64)


def require_finite(numbers: NDArray[np.floating[Any]], what: str) -> None:
    """Raise NumberError, which names `what`, for NaN or infinity; checks the sum first, which is fast."""
    with np.errstate(all="ignore"):
        if math.isfinite(numbers.sum()) or np.isfinite(numbers).all():
            return
    raise NumberError(
        f"the {what} that the network computed are not finite: its weights, or the state that it continued, "
        "are too large or damaged; train again with a lower learning_rate or clip_norm, or begin with a new state"
    )

"""Log-probabilities of tokens, and of the most probable tokens at their positions, from logits."""

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ...runtime.score import require_finite


@final
class TokenLogprobs(NamedTuple):
    """The score of one token.

    Attributes:
        log_prob: Natural log-probability of the token; of an unknown word in a prompt with its spelling.
        top: Ids and log-probabilities of the most probable tokens, most probable first.
    """

    log_prob: float
    top: tuple[tuple[int, float], ...]

    def plus(self, spelling: float) -> "TokenLogprobs":
        """The score with the log-probability of an unknown word's spelling; `top` has classes and no spellings."""
        return self._replace(log_prob=self.log_prob + spelling)


def token_logprobs(
    logits: NDArray[np.float32], targets: NDArray[np.int64], count: int, closed: NDArray[np.int64] | None = None
) -> list[TokenLogprobs]:
    """Score one token at each position.

    Sampling options do not change the scores, and the unknown token keeps its share.

    Args:
        logits: float32 [positions, vocabulary].
        targets: int64 [positions].
        count: Number of most probable tokens to return; equal ones are ordered by id.
        closed: Ids of tokens that cannot follow; the scores are conditional on that.

    Raises:
        NumberError: A logit is NaN or infinity.
    """
    require_finite(logits, "logits")
    if closed is not None:
        logits = logits.copy()
        logits[:, closed] = -np.inf
        count = min(count, logits.shape[1] - len(closed))
    largest = logits.max(axis=1)
    totals = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1, dtype=np.float64))
    return [
        TokenLogprobs(row.item(target) - total, tuple((token, row.item(token) - total) for token in _top(row, count)))
        for row, target, total in zip(logits, targets.tolist(), totals.tolist(), strict=True)
    ]


def _top(logits: NDArray[np.float32], count: int) -> list[int]:
    """Ids of the `count` largest values, largest first, equal ones by id."""
    if count == 0:
        return []
    if count >= len(logits):
        candidates = np.arange(len(logits))
    else:
        candidates = np.flatnonzero(logits >= np.partition(logits, -count)[-count])
    order = np.argsort(-logits[candidates], kind="stable")[:count]
    top: list[int] = candidates[order].tolist()
    return top

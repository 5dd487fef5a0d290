"""Log-probabilities of tokens, and of the most probable ones beside them, from logits."""

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ...runtime.sampling import log_softmax
from ...runtime.score import require_finite


@final
class Scored(NamedTuple):
    """What the model made of one token of a text.

    Attributes:
        log_prob: Natural log-probability of the token.
        top: Ids and log-probabilities of the most probable tokens, most probable first.
    """

    log_prob: float
    top: tuple[tuple[int, float], ...]


def score_rows(logits: NDArray[np.float32], targets: NDArray[np.int64], count: int) -> list[Scored]:
    """The scores of one token at each position.

    The numbers are the model's own: neither temperature nor top-p changes them, and the unknown token has its share.

    Args:
        logits: float32 [positions, vocabulary].
        targets: int64 [positions].
        count: How many of the most probable tokens to name, those of equal probability by id.

    Raises:
        NumberError: A logit is no finite number.
    """
    require_finite(logits, "logits")
    log_probs = log_softmax(logits)
    return [_scored(row, int(target), count) for row, target in zip(log_probs, targets, strict=True)]


def _scored(log_probs: NDArray[np.float64], target: int, count: int) -> Scored:
    return Scored(
        float(log_probs[target]), tuple((index, float(log_probs[index])) for index in _best(log_probs, count))
    )


def _best(log_probs: NDArray[np.float64], count: int) -> list[int]:
    """Ids of the `count` largest, largest first, equal ones by id."""
    if count == 0:
        return []
    if count >= len(log_probs):
        candidates = np.arange(len(log_probs))
    else:
        candidates = np.flatnonzero(log_probs >= np.partition(log_probs, -count)[-count])
    order = np.argsort(-log_probs[candidates], kind="stable")[:count]
    best: list[int] = candidates[order].tolist()
    return best

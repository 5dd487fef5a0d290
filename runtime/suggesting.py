"""The most probable next words, and those that complete a word of which some letters are there, from logits."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .errors import OptionError
from .sampling import log_softmax
from .vocabulary import Vocabulary


def suggested(
    logits: Callable[[], NDArray[np.float32]],
    vocabulary: Vocabulary,
    k: int,
    *,
    prefix: str | None = None,
    allow_unknown: bool = False,
) -> list[tuple[str, float]]:
    """What `Stream.suggest` gives, which describes the arguments.

    Args:
        logits: Gives the next token's logits, float32 [vocabulary]; called where they are needed, after all checks.
        vocabulary: The tokens.
        k: See `Stream.suggest`.
        prefix: See `Stream.suggest`.
        allow_unknown: See `Stream.suggest`.

    Raises:
        OptionError: As for `Stream.suggest`.
    """
    if k < 1:
        raise OptionError(f"the number of suggestions is {k}, expected 1 or more")
    if prefix:
        return _completed(logits, vocabulary, k, prefix)
    log_probs = log_softmax(logits())
    order = np.argsort(-log_probs, kind="stable")[: k + 1].tolist()
    chosen = [index for index in order if allow_unknown or index != vocabulary.unknown_id][:k]
    return [(vocabulary.token(index), float(np.exp(log_probs[index]))) for index in chosen]


def _completed(
    logits: Callable[[], NDArray[np.float32]], vocabulary: Vocabulary, k: int, prefix: str
) -> list[tuple[str, float]]:
    if vocabulary.tokenization.unit != "word":
        raise OptionError(
            f"prefix is {prefix!r}, but this model reads characters and completes whatever it was fed; "
            f"feed the letters instead"
        )
    if prefix.split() != [prefix]:
        raise OptionError(f"prefix is {prefix!r}, expected the letters of one word; feed the words before it")
    ids = vocabulary.completions(prefix)
    if not ids:
        return []
    log_probs = log_softmax(logits()[ids])
    order = np.argsort(-log_probs, kind="stable")[:k].tolist()
    return [(vocabulary.token(ids[place]), float(np.exp(log_probs[place]))) for place in order]

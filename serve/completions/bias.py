"""Logit bias: numbers that a request adds to the logits of tokens; -100 rules a token out."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..engine import Engine
from ..errors import invalid
from ..options import MAX_BIAS


def checked_bias(bias: Mapping[str, float], engine: Engine) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Token ids, and what is added to their logits.

    Args:
        bias: Token id, in decimal digits -> what is added, -100 to 100.
        engine: Has the model's tokens, and those that are barred anyway.

    Raises:
        ApiError: An id is outside the vocabulary, or no token is left that may be written.
    """
    size = len(engine.vocabulary)
    ids = np.array([_token_id(text, size) for text in bias], np.int64)
    values = np.array(list(bias.values()), np.float32)
    values = np.where(values == -MAX_BIAS, -np.inf, values).astype(np.float32)
    _require_token(ids, values, engine.barred, size, "")
    return ids, values


def check_after_space(bias: tuple[NDArray[np.int64], NDArray[np.float32]], engine: Engine) -> None:
    """Check that a token is left that begins with the space at the end of a prompt.

    Raises:
        ApiError: There is none.
    """
    closed = np.concatenate([engine.barred, engine.vocabulary.spaces.others])
    _require_token(*bias, closed, len(engine.vocabulary), " that begin with the space at the end of the prompt")


def _require_token(
    ids: NDArray[np.int64], values: NDArray[np.float32], barred: NDArray[np.int64], size: int, which: str
) -> None:
    if len({*ids[np.isneginf(values)].tolist(), *barred.tolist()}) == size:
        raise invalid(
            f"logit_bias is {-MAX_BIAS} for all tokens{which}, expected one that may be written", "logit_bias"
        )


def _token_id(text: str, size: int) -> int:
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(size))
    if not is_number or str(int(text)) != text or int(text) >= size:
        raise invalid(f"logit_bias has the token id {text[:20]!r}, expected 0 to {size - 1}", "logit_bias")
    return int(text)

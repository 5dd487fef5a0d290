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
    never = {*ids[np.isneginf(values)].tolist(), *engine.barred.tolist()}
    if len(never) == size:
        raise invalid(f"logit_bias is {-MAX_BIAS} for all tokens, expected one that may be written", "logit_bias")
    return ids, values


def _token_id(text: str, size: int) -> int:
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(size))
    if not is_number or str(int(text)) != text or int(text) >= size:
        raise invalid(f"logit_bias has the token id {text[:20]!r}, expected 0 to {size - 1}", "logit_bias")
    return int(text)

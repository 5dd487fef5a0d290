"""Bare calls of a predictor's session, the baseline of what lmtool adds to them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS
from ..runtime.predictor import Predictor


def bare_calls(predictor: Predictor, token_ids: NDArray[np.int64]) -> Callable[[], None]:
    """A function that calls `session.run` for each entry of `token_ids`, int64 [calls, batch, time], with all logits.

    Each call continues the states of the one before, also of the function's last run.
    """
    session, names = predictor.session, list(predictor.artifact.architecture.states)
    outputs = [LOGITS, *(f"{NEXT}{name}" for name in names)]
    inputs = list(token_ids)
    feed: dict[str, Any] = dict(zip(names, predictor.initial_state(token_ids.shape[1]).tensors, strict=True))

    def run() -> None:
        for tokens in inputs:
            feed[TOKEN_IDS] = tokens
            _, *states = session.run(outputs, feed)
            feed.update(zip(names, states, strict=True))

    return run

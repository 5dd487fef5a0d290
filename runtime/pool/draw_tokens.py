"""Draws the next token of every generation of a call; a fault ends the generation that it belongs to, and no other."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..draws.token_sampler import TokenSampler
from ..errors import NumberError, PoolError
from ..score import require_finite
from ..state import State
from .generation import Generation


def draw_tokens(
    generations: Sequence[Generation],
    logits: NDArray[np.float32],
    sampler: TokenSampler,
    state: Callable[[int, int], State],
) -> None:
    """Draw a token for each generation, and add it.

    Args:
        generations: The first rows of the call.
        logits: float32 [generations, vocabulary]; not changed.
        sampler: Draws.
        state: (slot, pending token) -> a copy of the state.
    """
    with np.errstate(all="ignore"):
        sound = np.isfinite(np.einsum("rv->r", logits)).all()  # three times as fast as their `sum`
    if not sound:
        generations, logits = _sound(generations, logits)
    for generation, row, token in zip(generations, logits, _choose(generations, logits, sampler), strict=True):
        if token >= 0:
            generation.take(token, row, functools.partial(state, generation.slot, token))


def _sound(
    generations: Sequence[Generation], logits: NDArray[np.float32]
) -> tuple[list[Generation], NDArray[np.float32]]:
    """End the generations with logits that are not finite; return the others."""
    kept = []
    for row, generation in enumerate(generations):
        try:
            require_finite(logits[row], "logits")
            kept.append(row)
        except NumberError as error:
            generation.ending = error
    return [generations[row] for row in kept], logits[kept]


def _choose(generations: Sequence[Generation], logits: NDArray[np.float32], sampler: TokenSampler) -> list[int]:
    """A token for each generation; if that fails, one by one by the same numbers, and -1 for those that fail alone."""
    if not generations:
        return []
    draws = [generation.draw for generation in generations]
    for draw in draws:
        draw.drawn = None
    try:
        chosen: list[int] = sampler.choose(logits, draws).tolist()
    except Exception:
        for draw in draws:
            draw.again = draw.drawn
        return [_choose_alone(generation, logits[[row]], sampler) for row, generation in enumerate(generations)]
    return chosen


def _choose_alone(generation: Generation, logits: NDArray[np.float32], sampler: TokenSampler) -> int:
    try:
        return int(sampler.choose(logits, [generation.draw])[0])
    except Exception as error:
        generation.ending = PoolError(f"drawing a token failed: {error}")
        generation.ending.__cause__ = error
        return -1

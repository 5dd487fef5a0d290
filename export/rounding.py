"""The original's own rounding error along the tokens of a comparison."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ..runtime.artifact.artifact import LOGITS
from .parity import Array
from .reference import Reference, States, Tokens

_SIGNS = ((1.0,), (-1.0,), (-1.0, 1.0))
"""Directions in which every number of a state moves: all up, all down, at random."""

_SMALLEST = 0.5
"""Numbers below it move as far as it does."""


def measure_rounding(
    reference: Reference, path: Iterable[Tokens], states: States, rounding: float
) -> Iterator[Mapping[str, float]]:
    """How far the reference moves when it computes with other rounding, after each call of a path.

    It reads the path in float64, and three more times, as rows of one call, with states that move by one rounding error
    before each call. Errors that build up in an artifact, as in a cell that counts, build up here too.

    Args:
        reference: The computation to measure.
        path: Token ids of each call; each continues from the states after the last.
        states: The states before the first call.
        rounding: Relative rounding error.

    Yields:
        `logits` and the name of each state -> the largest absolute difference from the plain run so far.
    """
    random = np.random.default_rng(1)
    plain, exact, moving = states, states, [states] * len(_SIGNS)
    largest: dict[str, float] = {}
    for tokens in path:
        logits, plain = reference.run(tokens, plain)
        moved = [_move(before, signs, rounding, random) for before, signs in zip(moving, _SIGNS, strict=True)]
        others = _run_together(reference, tokens, moved)
        moving = [after for _, after in others]
        if (in_float64 := reference.run_exactly(tokens, exact)) is not None:
            exact = in_float64[1]
            others.append(in_float64)
        for name, expected in ({LOGITS: logits, **plain}).items():
            for other_logits, after in others:
                difference = float(np.abs({LOGITS: other_logits, **after}[name] - expected).max())
                largest[name] = max(largest.get(name, 0.0), difference)
        yield dict(largest)


def _run_together(reference: Reference, tokens: Tokens, states: Sequence[States]) -> list[tuple[Array, States]]:
    """Logits and next states of the same tokens after each of the states, by one call."""
    joined = {name: np.concatenate([each[name] for each in states]) for name in states[0]}
    logits, after = reference.run(np.tile(tokens, (len(states), 1)), joined)
    parts = {name: np.split(array, len(states)) for name, array in ({LOGITS: logits, **after}).items()}
    return [(parts[LOGITS][number], {name: parts[name][number] for name in after}) for number in range(len(states))]


def _move(states: States, signs: tuple[float, ...], rounding: float, random: np.random.Generator) -> States:
    return {
        name: (array + rounding * random.choice(signs, array.shape) * np.maximum(np.abs(array), _SMALLEST)).astype(
            np.float32
        )
        for name, array in states.items()
    }

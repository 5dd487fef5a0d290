"""Measures batch invariance on this machine: a row of a batch has the same bits as the row alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..score import require_finite
from ..state import State

if TYPE_CHECKING:
    from ..predictor import Predictor


def first_difference(predictor: "Predictor", batch_sizes: Sequence[int], time: int = 3) -> str | None:
    """Describe the first difference between a row in a batch and the same row alone; None if there is none.

    Random tokens, `time` per row, continue random states. The first, the middle and the last row of each batch are
    compared, once with the logits of all positions and once with those of the last.

    Raises:
        NumberError: The network computes NaN or infinity.
    """
    random = np.random.default_rng(0)
    largest = max(batch_sizes)
    tokens = random.integers(0, len(predictor.vocabulary), (largest, time))
    zero = predictor.initial_state(largest)
    draws = tuple(random.uniform(-1, 1, tensor.shape).astype(np.float32) for tensor in zero.tensors)
    for size in batch_sizes:
        for kept in (1, time):
            together = _run(predictor, tokens, draws, range(size), kept)
            for row in sorted({0, size // 2, size - 1}):
                alone = _run(predictor, tokens, draws, range(row, row + 1), kept)
                if not all(np.array_equal(a[row], b[0]) for a, b in zip(together, alone, strict=True)):
                    return f"row {row} of a batch of {size}, {kept} of {time} logits kept"
    return None


def _run(
    predictor: "Predictor", tokens: np.ndarray, draws: tuple[np.ndarray, ...], rows: range, kept: int
) -> list[np.ndarray]:
    """Logits and states of `rows`, run in one call."""
    chosen = slice(rows.start, rows.stop)
    state = State(predictor.artifact.sha256, tuple(tensor[chosen] for tensor in draws))
    logits, after = predictor.step(tokens[chosen], state, logits_to_keep=kept)
    arrays = [logits, *after.tensors]
    for array in arrays:
        require_finite(array, "logits or states")
    return arrays

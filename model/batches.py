"""Batches for truncated back-propagation through time: the corpus cut into rows that are read side by side."""

from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import DataError


@final
class Batches:
    """`batch_size` rows of the token ids, in steps of `steps`; the tail that fills no step is left out.

    Row b at step s + 1 goes on where it stopped at step s, so the recurrent state carries over. This is the Penn
    Treebank reader's cut: rows of len(ids) // batch_size tokens, targets one token ahead.
    """

    def __init__(self, token_ids: NDArray[np.int32], batch_size: int, steps: int) -> None:
        """Cut the rows.

        Raises:
            DataError: There are too few tokens for one step; the message says what would fit.
        """
        width = len(token_ids) // batch_size
        self.step_count = (width - 1) // steps
        if self.step_count < 1:
            raise DataError(_too_short(len(token_ids), batch_size, steps))
        self._rows = torch.from_numpy(token_ids[: width * batch_size].astype(np.int64)).view(batch_size, width)
        self._steps = steps
        self.tokens_per_step = batch_size * steps

    def from_step(self, first: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Inputs and targets, int64 [batch, steps] each, from step `first` to the last."""
        for step in range(first, self.step_count):
            start = step * self._steps
            stop = start + self._steps
            yield self._rows[:, start:stop], self._rows[:, start + 1 : stop + 1]


def _too_short(count: int, batch_size: int, steps: int) -> str:
    fits = []
    if count // (steps + 1) >= 1:
        fits.append(f"--set batch_size={count // (steps + 1)}")
    if count // batch_size >= 2:
        fits.append(f"--set steps={count // batch_size - 1}")
    advice = f"what fits: {' or '.join(fits)}" if fits else "more text is needed"
    return (
        f"the training text has {count:,} tokens, batch_size {batch_size} x steps {steps} needs at least "
        f"{batch_size * (steps + 1):,}; {advice}"
    )

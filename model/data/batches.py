"""Batches for truncated back-propagation through time: the corpus cut into rows that are read in parallel."""

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from ..training.config import TrainConfig
from ..training.distributed import ProcessGroup

_SHORTEST, _HALVED, _DEVIATION = 5, 0.05, 5.0
"""Of variable steps (arXiv 1708.02182): fewest tokens, probability of half the length, standard deviation."""


@final
class Batches:
    """`batch_size` rows of the token ids, read in steps of `steps` tokens; an incomplete last step is left out.

    Row b continues at step s + 1 where it stopped at step s, so the recurrent state carries over. Rows are cut as by
    the Penn Treebank reader: len(ids) // batch_size tokens each, targets one token ahead. Each process of a group reads
    its share of the rows. With `partial_shuffle`, each row of an epoch begins at a random place and goes on from its
    end to its start (arXiv 1903.04167).
    """

    def __init__(self, token_ids: NDArray[np.int32], config: TrainConfig, group: ProcessGroup | None = None) -> None:
        """Cut the rows; the ids are not copied.

        Raises:
            DataError: There are too few tokens for one step, or the processes cannot share the rows evenly.
        """
        group = group or ProcessGroup()
        batch_size, steps = config.streams, config.steps
        width = len(token_ids) // batch_size
        if width <= steps:
            raise DataError(_too_short(len(token_ids), batch_size, steps))
        if batch_size % group.count:
            raise DataError(
                f"batch_size {batch_size} cannot be shared evenly by {group.count} processes; "
                f"try --set batch_size={-(-batch_size // group.count) * group.count}"
            )
        self._share = group.rows(batch_size)
        self._rows = token_ids[: width * batch_size].reshape(batch_size, width)[self._share]
        self._config = config

    def spans(self, epoch: int) -> list[tuple[int, int]]:
        """(first column, column after the last) of each step of an epoch; epochs count from 0."""
        inputs, steps = self._rows.shape[1] - 1, self._config.steps
        if not self._config.variable_steps:
            return [(start, start + steps) for start in range(0, inputs - steps + 1, steps)]
        generator = np.random.default_rng((self._config.seed, epoch))
        spans, start = [], 0
        while start < inputs:
            base = steps / 2 if generator.random() < _HALVED else steps
            stop = min(start + max(_SHORTEST, int(generator.normal(base, _DEVIATION))), inputs)
            spans.append((start, stop))
            start = stop
        return spans

    def read(self, epoch: int, span: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step of an epoch, int64 [rows of this process, time] each."""
        start, stop = span
        columns = np.arange(start, stop + 1)[None]
        if self._config.partial_shuffle:
            columns = (columns + self._beginnings(epoch)) % self._rows.shape[1]
        window = torch.from_numpy(np.take_along_axis(self._rows, columns, 1).astype(np.int64))
        return window[:, :-1], window[:, 1:]

    def _beginnings(self, epoch: int) -> NDArray[np.int64]:
        """First column of each row in an epoch, int64 [rows of this process, 1]."""
        generator = np.random.default_rng((self._config.seed, epoch))
        return generator.integers(self._rows.shape[1], size=(self._config.streams, 1))[self._share]


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

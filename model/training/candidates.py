"""The tokens that a sampled softmax sums over: drawn anew for every step, each with a known probability."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@final
@dataclass(frozen=True)
class Candidates:
    """The tokens of one step.

    Attributes:
        ids: int64 [candidates], ascending: their ids.
        log_probabilities: float32 [candidates]: logarithm of the probability that each is drawn.
    """

    ids: Tensor
    log_probabilities: Tensor


@final
class CandidateSampler:
    """Draws a fixed number of distinct tokens, frequent ones more often (importance sampling, arXiv 1412.2007).

    A token is drawn with a probability proportional to the square root of its count plus one, but at most 1. If each
    prediction gave all probability to one token, no other choice would give a sampled sum of less variance.
    """

    def __init__(self, counts: NDArray[np.int64], candidates: int, device: torch.device) -> None:
        """Choose the probabilities.

        Args:
            counts: int64 [vocabulary]: how often each token occurs in the training text.
            candidates: Tokens to draw, 1 or more and fewer than the vocabulary has.
            device: Where the drawn tensors are.
        """
        assert 1 <= candidates < len(counts)
        probabilities = _probabilities(np.sqrt(counts + 1.0), candidates)
        ends = np.cumsum(probabilities)
        ends[-1] = candidates  # but for rounding it is
        self._ends = torch.from_numpy(ends)
        self._log_probabilities = torch.from_numpy(np.log(probabilities)).float().to(device)
        self._device = device

    def draw(self) -> Candidates:
        """The candidates of one step, by one random number of torch's generator for the CPU.

        Systematic sampling: the tokens lie on a line, each as long as its probability, and those are drawn that cover
        one of the points u, u + 1, ... with a random u. No token is longer than 1, so none covers two.
        """
        points = (self._ends + torch.rand((), dtype=torch.float64)).floor_().long()
        ids = torch.diff(points, prepend=points.new_zeros(1)).nonzero()[:, 0].to(self._device)
        return Candidates(ids, self._log_probabilities[ids])


def _probabilities(sizes: NDArray[np.float64], candidates: int) -> NDArray[np.float64]:
    """min(1, c x sizes) with the c that makes their sum the number of candidates, float64 [vocabulary]."""
    certain = np.zeros(len(sizes), bool)
    while True:
        factor = (candidates - certain.sum()) / sizes[~certain].sum()
        probabilities = np.where(certain, 1.0, factor * sizes)
        if not (probabilities > 1).any():
            return probabilities
        certain |= probabilities >= 1

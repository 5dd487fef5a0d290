"""The words that a sampled softmax sums over: drawn anew for every step, each with a known probability."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@final
@dataclass(frozen=True)
class Candidates:
    """The words of one step.

    Attributes:
        ids: int64 [candidates], ascending: their token ids.
        log_probabilities: float32 [candidates]: logarithm of the probability that a step has this word.
        places: int64 [vocabulary]: the index in `ids` of each word, -1 where it is not among them.
    """

    ids: Tensor
    log_probabilities: Tensor
    places: Tensor


@final
class CandidateSampler:
    """Draws a fixed number of distinct words, frequent ones more often (importance sampling, arXiv 1412.2007).

    A word's probability is proportional to the square root of its frequency, which minimises the variance of the
    sampled sum where the network gives a word all or nothing; 1 where that would be more.
    """

    def __init__(self, counts: NDArray[np.int64], candidates: int, device: torch.device) -> None:
        """Choose the probabilities.

        Args:
            counts: int64 [vocabulary]: how often each word occurs in the training text.
            candidates: Words a step, 1 or more and fewer than the vocabulary.
            device: Where the drawn tensors are.
        """
        probabilities = _probabilities(np.sqrt(counts + 1.0), candidates)
        ends = np.cumsum(probabilities)
        ends[-1] = candidates  # whatever the rounding
        self._ends = torch.from_numpy(ends)
        self._log_probabilities = torch.from_numpy(np.log(probabilities)).float().to(device)
        self._device = device

    def draw(self) -> Candidates:
        """Candidates of one step, with torch's random numbers of the CPU.

        Systematic sampling: the words lie on a line, each as long as its probability, and those are drawn that cover
        one of the points u, u + 1, ..., which have a random offset.
        """
        points = (self._ends + torch.rand((), dtype=torch.float64)).floor_().long()
        ids = torch.diff(points, prepend=points.new_zeros(1)).nonzero()[:, 0]
        places = torch.full_like(points, -1)
        places[ids] = torch.arange(len(ids))
        ids = ids.to(self._device)
        return Candidates(ids, self._log_probabilities[ids], places.to(self._device))


def _probabilities(sizes: NDArray[np.float64], candidates: int) -> NDArray[np.float64]:
    """min(1, c x sizes) with the c that makes their sum the number of candidates, float64 [vocabulary]."""
    probabilities = np.zeros(len(sizes))
    certain = np.zeros(len(sizes), bool)
    while True:
        share = (candidates - certain.sum()) / sizes[~certain].sum()
        probabilities = np.where(certain, 1.0, share * sizes)
        if not (probabilities > 1).any():
            return probabilities
        certain |= probabilities >= 1

"""Dropout of activations, of whole words, and of recurrent weights."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import dropout


@final
@dataclass(frozen=True)
class Dropouts:
    """Dropout probabilities, for training only.

    Attributes:
        input: Of the embedding's output.
        hidden: Of a layer's output to the next layer.
        output: Of the last layer's output.
        embedding: Of a word's whole vector, at all its places in the step (arXiv 1512.05287).
        weight: Of a recurrent weight (DropConnect, arXiv 1708.02182).
        locked: Whether the first three drop the same numbers at every time step of a row (variational dropout).
    """

    input: float = 0.0
    hidden: float = 0.0
    output: float = 0.0
    embedding: float = 0.0
    weight: float = 0.0
    locked: bool = False


def drop_activations(activations: Tensor, probability: float, *, locked: bool) -> Tensor:
    """Dropout of [batch, time, width]; `locked`: the same numbers at every time step."""
    if probability == 0:
        return activations
    if not locked:
        return dropout(activations, probability)
    batch, _, width = activations.shape
    return activations * dropout(torch.ones(batch, 1, width, device=activations.device), probability)


def drop_words(vectors: Tensor, token_ids: Tensor, vocabulary_size: int, probability: float) -> Tensor:
    """Drop the vectors of random words at all their places; `vectors` is [batch, time, width]."""
    if probability == 0:
        return vectors
    scales = dropout(torch.ones(vocabulary_size, device=vectors.device), probability)
    return vectors * scales[token_ids][..., None]

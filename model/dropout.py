"""Dropout in its forms: of numbers, locked over time, of whole words, of recurrent weights."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import dropout


@final
@dataclass(frozen=True)
class Dropouts:
    """Probabilities of dropping, for training only.

    Attributes:
        input: A number of a token's vector.
        hidden: A number of a layer's output that goes to the next layer.
        output: A number of the last layer's output.
        embedding: A word's whole vector, wherever the word stands in the step.
        weight: A recurrent weight.
        locked: Whether the first three drop the same numbers at every time step of a row.
    """

    input: float = 0.0
    hidden: float = 0.0
    output: float = 0.0
    embedding: float = 0.0
    weight: float = 0.0
    locked: bool = False


def drop_numbers(activations: Tensor, probability: float, *, locked: bool) -> Tensor:
    """Drop numbers of [batch, time, width] and scale up the rest; `locked`: the same at every time step."""
    if probability == 0:
        return activations
    if not locked:
        return dropout(activations, probability)
    batch, _, width = activations.shape
    return activations * dropout(torch.ones(batch, 1, width, device=activations.device), probability)


def drop_words(vectors: Tensor, token_ids: Tensor, vocabulary_size: int, probability: float) -> Tensor:
    """Drop the vectors [batch, time, width] of words drawn from the vocabulary, at all their places."""
    if probability == 0:
        return vectors
    kept = dropout(torch.ones(vocabulary_size, device=vectors.device), probability)
    return vectors * kept[token_ids][..., None]

"""Dropout of activations, of whole words, and of recurrent weights."""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

_FRACTIONS = 2**16
"""Probabilities are multiples of 1 / this."""


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


def drop(numbers: Tensor, probability: float) -> Tensor:
    """Dropout of float32 numbers of any shape: each becomes 0 with the probability, rounded to a multiple of 2^-16.

    The others are divided by the probability of keeping them. A number takes 16 random bits, which on the CPU are drawn
    in a tenth of the time that torch's own dropout takes to draw.
    """
    return numbers * _scales(numbers.shape, probability, numbers.device)


def drop_activations(activations: Tensor, probability: float, *, locked: bool) -> Tensor:
    """Dropout of [batch, time, width]; `locked`: the same numbers at every time step."""
    if probability == 0:
        return activations
    if not locked:
        return drop(activations, probability)
    batch, _, width = activations.shape
    return activations * _scales((batch, 1, width), probability, activations.device)


def drop_words(vectors: Tensor, token_ids: Tensor, vocabulary_size: int, probability: float) -> Tensor:
    """Drop the vectors of random words at all their places; `vectors` is [batch, time, width]."""
    if probability == 0:
        return vectors
    scales = _scales((vocabulary_size,), probability, vectors.device)
    return vectors * scales[token_ids][..., None]


def _scales(shape: tuple[int, ...], probability: float, device: torch.device) -> Tensor:
    """Random factors, float32 `shape`: 0 with the probability, else 1 / (1 - probability)."""
    count, dropped = math.prod(shape), min(round(probability * _FRACTIONS), _FRACTIONS - 1)
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=device).random_(-(2**63), None)
    kept = words.view(torch.int16)[:count] >= dropped - _FRACTIONS // 2
    return kept.float().mul_(_FRACTIONS / (_FRACTIONS - dropped)).view(shape)

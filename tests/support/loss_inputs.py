"""Inputs of the training loss, and the distance of its results from others."""

import torch
from torch import Tensor


def loss_inputs(tokens: int, width: int, vocabulary: int, spread: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden vectors with this standard deviation, weights and biases, all with gradients, and targets."""
    generator = torch.Generator().manual_seed(tokens)
    hidden = torch.randn(tokens, width, generator=generator) * spread
    weight = torch.randn(vocabulary, width, generator=generator)
    bias = torch.randn(vocabulary, generator=generator)
    targets = torch.randint(0, vocabulary, (tokens,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), targets


def distance(actual: Tensor, expected: Tensor) -> float:
    """The norm of the difference, relative to that of what is expected."""
    return float((actual - expected).norm() / expected.norm())

"""The fused loss against torch's own functions."""

import pytest
import torch
from lmtool.model.loss import Workspace, projection_loss
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

SIZES = [(7, 3, 11), (64, 32, 500), (33, 128, 65)]


def tensors(tokens: int, width: int, vocabulary: int, spread: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    hidden = torch.randn(tokens, width, generator=generator) * spread
    weight = torch.randn(vocabulary, width, generator=generator)
    bias = torch.randn(vocabulary, generator=generator)
    targets = torch.randint(0, vocabulary, (tokens,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), targets


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("spread", [0.3, 30.0])
def test_loss_and_gradients_are_torchs(
    sizes: tuple[int, int, int], dtype: torch.dtype, bound: float, spread: float
) -> None:
    hidden, weight, bias, targets = tensors(*sizes, spread)
    plain = cross_entropy(linear(hidden, weight, bias), targets, reduction="sum") * 0.25
    fused = projection_loss(hidden, weight, bias, targets, 0.25, dtype, Workspace())
    assert fused.item() == pytest.approx(plain.item(), rel=bound)
    expected = torch.autograd.grad(plain, (hidden, weight, bias))
    for found, wanted in zip(torch.autograd.grad(fused * 3, (hidden, weight, bias)), expected, strict=True):
        assert distance(found / 3, wanted) < bound if spread < 1 else distance(found / 3, wanted) < 10 * bound


def test_logits_whose_exponential_overflows_are_computed_relative_to_the_largest() -> None:
    hidden, weight, bias, targets = tensors(7, 3, 11, 100.0)
    logits = linear(hidden, weight, bias)
    own = logits.gather(1, targets[:, None])
    assert not bool((logits - own).exp().isfinite().all())  # what the fast way would meet
    fused = projection_loss(hidden, weight, bias, targets, 1.0, torch.float32, Workspace())
    assert fused.item() == pytest.approx(cross_entropy(logits, targets, reduction="sum").item(), rel=1e-6)


def test_a_workspace_serves_steps_of_different_lengths() -> None:
    workspace = Workspace()
    for tokens in (40, 7, 33, 40):
        hidden, weight, bias, targets = tensors(tokens, 5, 30, 1.0)
        fused = projection_loss(hidden, weight, bias, targets, 1.0, torch.float32, workspace)
        assert fused.item() == pytest.approx(
            cross_entropy(linear(hidden, weight, bias), targets, reduction="sum").item()
        )


def test_numbers_that_are_none_are_not_hidden() -> None:
    hidden, weight, bias, targets = tensors(7, 3, 11, 1.0)
    with torch.no_grad():
        weight[4, 1] = torch.nan
    assert projection_loss(hidden, weight, bias, targets, 1.0, torch.float32, Workspace()).isnan()

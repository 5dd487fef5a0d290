"""The fused loss, compared with torch's functions."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lmtool.model.training import loss as loss_module
from lmtool.model.training.config import TrainConfig
from lmtool.model.training.device import layer_precision
from lmtool.model.training.loss import Objective, Workspace, projection_loss
from support.loss_inputs import distance, loss_inputs
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

SIZES = [(7, 3, 11), (64, 32, 500), (33, 128, 65)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("spread", [0.3, 30.0])
def test_loss_and_gradients_equal_those_of_torch(
    sizes: tuple[int, int, int], dtype: torch.dtype, bound: float, spread: float
) -> None:
    hidden, weight, bias, targets = loss_inputs(*sizes, spread)
    plain = cross_entropy(linear(hidden, weight, bias), targets, reduction="sum") * 0.25
    fused = projection_loss(hidden, weight, bias, targets, 0.25, dtype, Workspace())
    assert fused.item() == pytest.approx(plain.item(), rel=bound)
    expected = torch.autograd.grad(plain, (hidden, weight, bias))
    for gradient, reference in zip(torch.autograd.grad(fused * 3, (hidden, weight, bias)), expected, strict=True):
        assert distance(gradient / 3, reference) < (bound if spread < 1 else 10 * bound)


def test_overflowing_exponentials_are_computed_relative_to_the_largest() -> None:
    hidden, weight, bias, targets = loss_inputs(7, 3, 11, 100.0)
    logits = linear(hidden, weight, bias)
    own = logits.gather(1, targets[:, None])
    assert not bool((logits - own).exp().isfinite().all())  # the positive control
    fused = projection_loss(hidden, weight, bias, targets, 1.0, torch.float32, Workspace())
    assert fused.item() == pytest.approx(cross_entropy(logits, targets, reduction="sum").item(), rel=1e-6)


@pytest.mark.parametrize("size", [1.0, 8.0])
@pytest.mark.parametrize("gap", [60.0, 84.0, 86.0, 88.0, 95.0, 300.0])
def test_gradients_are_correct_for_logits_far_above_the_target(gap: float, size: float) -> None:
    """Denormal numbers are off, as in a training, so that reciprocals of large sums would become 0."""
    weight = torch.tensor([[size, 0.0], [0.0, size], [0.0, 0.0]]).requires_grad_()
    hidden = torch.tensor([[gap / size, 0.0], [0.1, 0.2]]).requires_grad_()
    bias, targets = torch.zeros(3, requires_grad=True), torch.tensor([1, 0])
    plain = cross_entropy(linear(hidden, weight, bias), targets, reduction="sum") / 1400
    torch.set_flush_denormal(True)
    fused = projection_loss(hidden, weight, bias, targets, 1 / 1400, torch.float32, Workspace())
    gradients = torch.autograd.grad(fused, (hidden, weight, bias))
    for gradient, reference in zip(gradients, torch.autograd.grad(plain, (hidden, weight, bias)), strict=True):
        assert distance(gradient, reference) < 1e-5


def test_a_workspace_is_reused_for_steps_of_different_lengths() -> None:
    workspace = Workspace()
    for tokens in (40, 7, 33, 40):
        hidden, weight, bias, targets = loss_inputs(tokens, 5, 30, 1.0)
        fused = projection_loss(hidden, weight, bias, targets, 1.0, torch.float32, workspace)
        plain = cross_entropy(linear(hidden, weight, bias), targets, reduction="sum")
        assert fused.item() == pytest.approx(plain.item())
        expected = torch.autograd.grad(plain, (hidden, weight, bias))
        for gradient, reference in zip(torch.autograd.grad(fused, (hidden, weight, bias)), expected, strict=True):
            assert distance(gradient, reference) < 2e-6


@pytest.mark.parametrize("cancels", [True, False])
def test_rounding_that_all_logits_share_cancels(monkeypatch: pytest.MonkeyPatch, cancels: bool) -> None:
    """As a softmax does not see a number that is added to all logits. The control takes the target's logit exactly."""
    if not cancels:
        monkeypatch.setattr(loss_module, "_rounded", lambda numbers, dtype: numbers)
    hidden, weight, bias, targets = loss_inputs(64, 32, 11, 0.3)
    weight = (weight.detach() + 64).bfloat16().float()  # so all logits have 64 times the sum of the hidden vector
    plain = cross_entropy(linear(hidden, weight, bias), targets, reduction="none")
    errors = []
    for token in range(len(targets)):
        one = hidden[[token]], weight, bias, targets[[token]]
        errors.append((projection_loss(*one, 1.0, torch.bfloat16, Workspace()) - plain[token]).item())
    assert (max(map(abs, errors)) < 0.05) == cancels


def test_nan_in_the_weights_gives_a_nan_loss() -> None:
    hidden, weight, bias, targets = loss_inputs(7, 3, 11, 1.0)
    with torch.no_grad():
        weight[4, 1] = torch.nan
    assert projection_loss(hidden, weight, bias, targets, 1.0, torch.float32, Workspace()).isnan()


class FakeNetwork(nn.Module):
    """A network that notes whether its layers run under autocast for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(3, 5)
        self.autocast: bool | None = None

    def read(self, inputs: Any, state: tuple[()]) -> tuple[Tensor, Tensor, tuple[()]]:
        self.autocast = torch.is_autocast_enabled(inputs.device.type)
        output = torch.zeros(*inputs.shape, 3)
        return output, output, state


@pytest.mark.parametrize(("precision", "device", "layers"), [
    ("bf16", "cpu", "bf16"),
    ("bf16", "cuda", "fp32"),
    ("tf32", "cuda", "tf32"),
    ("fp32", "cpu", "fp32"),
])  # fmt: skip
def test_recurrent_layers_on_cuda_never_run_under_autocast(precision: str, device: str, layers: str) -> None:
    """There torch would give cuDNN float16. Without a GPU, torch warns of autocast for CUDA."""
    network: Any = FakeNetwork()
    inputs: Any = SimpleNamespace(shape=(2, 4), device=torch.device(device))
    targets = torch.zeros(2, 4, dtype=torch.int64)
    loss, *_ = Objective(network, TrainConfig("ptb-200", precision=precision))(inputs, targets, ())
    assert loss.isfinite()
    assert layer_precision(precision, device) == layers
    assert network.autocast == (layers == "bf16")

"""The training objective: cross-entropy, fused with projection and softmax and their gradients, and penalties.

The fused loss costs three matrix products and one pass of `exp` over a [tokens to sum over, tokens] matrix, the only
array of that size. It sums over the vocabulary, or over candidates drawn from it (a sampled softmax). Logits are taken
relative to the target's, which two extra columns of the product subtract. The target's exponential is then 1; it is
left out of the matrix and added to the sum, so that it counts exactly whether it is drawn or not. The loss is log1p of
the others' sum, without a pass for the maximum, and a column of ones makes the product that gives the hidden gradient
return that sum too. If a logit lies so far above its target's that `exp` would overflow, the logits are computed again
relative to the largest one."""

import contextlib
from typing import Any, final

import torch
from torch import Tensor, nn

from ..network import LanguageModel, NetworkState
from .candidates import Candidates
from .config import TrainConfig
from .device import bf16_layers, layer_precision

_LARGEST_SUM = 1e30
"""Of exponentials relative to the target's: above it, products or reciprocals may leave float32's range."""
_ALIGNMENT = 32
_EXTRA = 4
"""Columns beside the weights': the bias in two parts, and ones for the shift in two parts; the latter also sum."""


@final
class Workspace:
    """Buffers of `projection_loss`, reused from step to step."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def buffer(self, name: str, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A buffer of this shape with arbitrary content."""
        size = shape[0] * shape[1]
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size or buffer.dtype != dtype or buffer.device != device:
            buffer = self._buffers[name] = torch.empty(size, dtype=dtype, device=device)
        return buffer[:size].view(shape)


def projection_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    scale: float,
    dtype: torch.dtype,
    workspace: Workspace,
    candidates: Candidates | None = None,
) -> Tensor:
    """`scale` x the summed cross-entropy of `hidden @ weight.T + bias` and `targets`.

    Args:
        hidden: float32 [tokens, width].
        weight: float32 [vocabulary, width].
        bias: float32 [vocabulary].
        targets: int64 [tokens].
        scale: Factor of the loss and of its gradient.
        dtype: Type of the products' operands and results: float32, or bfloat16, which is summed in float32.
        workspace: Buffers, reused by the next call.
        candidates: Tokens whose exponentials, divided by the probability of being drawn, stand for those of all tokens
            but the target: an unbiased estimate of their sum. None for the vocabulary.

    Returns:
        float32 [], differentiable by hidden, weight and bias. With candidates it is an estimate, too low on average, as
        the logarithm of an unbiased one is.
    """
    loss: Tensor = _ProjectionLoss.apply(hidden, weight, bias, targets, scale, dtype, workspace, candidates)  # type: ignore[no-untyped-call]
    return loss


@final
class _ProjectionLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        scale: float,
        dtype: torch.dtype,
        workspace: Workspace,
        candidates: Candidates | None,
    ) -> Tensor:
        tokens, width = hidden.shape
        target_weights = weight[targets]
        shift = (_rounded(hidden, dtype) * _rounded(target_weights, dtype)).sum(1) + bias[targets]
        left = _weights_with_columns(*_summed(weight, bias, candidates), dtype, workspace)
        right = _hidden_with_rows(hidden, shift, dtype, workspace)
        exps = workspace.buffer("exps", (len(left), tokens), dtype, hidden.device)
        torch.mm(left, right, out=exps)
        _leave_targets_out(exps.exp_(), targets, candidates)
        by_hidden = torch.mm(left.t(), exps).float()  # [width + extra, tokens]
        others = by_hidden[width + 2]
        losses, sums = others.log1p(), others + 1
        if not bool((others < _LARGEST_SUM).all()):
            torch.mm(left, right, out=exps)
            largest = exps.amax(0).clamp_(min=0)
            _leave_targets_out(exps.sub_(largest).exp_(), targets, candidates)
            by_hidden, largest = torch.mm(left.t(), exps).float(), largest.float()
            others = by_hidden[width + 2]
            sums = others + (-largest).exp()
            losses = sums.log() + largest
        shares = scale / sums
        by_target = (-others * shares)[:, None]
        d_hidden = by_hidden[:width].mul_(shares).t().addcmul_(by_target, target_weights)
        right[:width] = (hidden * shares[:, None]).t()
        right[width] = shares
        by_weight = torch.mm(exps, right.t())
        d_weight = _gradient_of(weight, by_weight[:, :width], candidates).index_add_(0, targets, hidden * by_target)
        d_bias = _gradient_of(bias, by_weight[:, width], candidates).index_add_(0, targets, by_target[:, 0])
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        return losses.sum() * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = gradients
        saved = ctx.saved_tensors
        if float(factor) != 1.0:
            saved = tuple(tensor * factor for tensor in saved)
        return (*saved, None, None, None, None, None)


def _summed(weight: Tensor, bias: Tensor, candidates: Candidates | None) -> tuple[Tensor, Tensor]:
    """Weights and biases of the tokens to sum over; biases divide exponentials by the probability of being drawn."""
    if candidates is None:
        return weight, bias
    return weight[candidates.ids], bias[candidates.ids] - candidates.log_probabilities


def _leave_targets_out(exps: Tensor, targets: Tensor, candidates: Candidates | None) -> None:
    """Set the exponential of each token's target to 0, where it is there.

    Args:
        exps: float32 or bfloat16 [tokens to sum over, tokens].
        targets: int64 [tokens].
        candidates: The tokens to sum over; None for the vocabulary.
    """
    tokens = torch.arange(len(targets), device=targets.device)
    if candidates is None:
        exps[targets, tokens] = 0
    else:
        ids = candidates.ids
        places = torch.searchsorted(ids, targets.contiguous()).clamp_(max=len(ids) - 1)
        exps[places, tokens] *= ids[places] != targets


def _gradient_of(parameter: Tensor, gradient: Tensor, candidates: Candidates | None) -> Tensor:
    """The float32 gradient of a parameter of the vocabulary: `gradient`, and 0 for tokens not summed over."""
    if candidates is None:
        return gradient.float()
    return torch.zeros_like(parameter).index_copy_(0, candidates.ids, gradient.float())


def _weights_with_columns(weight: Tensor, bias: Tensor, dtype: torch.dtype, workspace: Workspace) -> Tensor:
    """[tokens to sum over, width + extra]: the weights, the bias in two parts, and ones."""
    width = weight.shape[1]
    left = workspace.buffer("left", (len(weight), _aligned(width + _EXTRA)), dtype, weight.device)
    left[:, :width] = weight
    left[:, width], left[:, width + 1] = _in_two_parts(bias, dtype)
    left[:, width + 2 : width + 4] = 1
    left[:, width + 4 :] = 0
    return left


def _hidden_with_rows(hidden: Tensor, shift: Tensor, dtype: torch.dtype, workspace: Workspace) -> Tensor:
    """[width + extra, tokens]: the hidden vectors, ones for the bias, and the negative shift in two parts."""
    tokens, width = hidden.shape
    right = workspace.buffer("right", (_aligned(width + _EXTRA), tokens), dtype, hidden.device)
    right[:width] = hidden.t()
    right[width : width + 2] = 1
    right[width + 2], right[width + 3] = _in_two_parts(-shift, dtype)
    right[width + 4 :] = 0
    return right


def _in_two_parts(numbers: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two tensors that sum to `numbers`, more exactly than one could where products round to bf16 or TF32."""
    first = numbers.to(torch.bfloat16).float()
    return first.to(dtype), (numbers - first).to(dtype)


def _rounded(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers as they enter a product of this type, but for TF32, whose rounding is an eighth of bf16's.

    The rounding error that all logits of a token share then cancels against that of its target's.
    """
    return numbers.to(dtype).float()


def _aligned(width: int) -> int:
    """`width` rounded up to the row length that matrix units prefer; the added columns are zero."""
    return -(-width // _ALIGNMENT) * _ALIGNMENT


@final
class Objective(nn.Module):
    """The loss of one step as a module, so that `DistributedDataParallel` can wrap it.

    The recipes sum the loss over the time steps and average it over the batch (`loss_over_time="sum"`).
    """

    def __init__(self, network: LanguageModel, config: TrainConfig) -> None:
        super().__init__()
        self.network = network
        self._precision = config.precision
        self._dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        self._summed = config.loss_over_time == "sum"
        self._activation, self._temporal = config.activation_penalty, config.temporal_penalty
        self._workspace = Workspace()

    def forward(
        self, inputs: Tensor, targets: Tensor, state: NetworkState, candidates: Candidates | None = None
    ) -> tuple[Tensor, Tensor, NetworkState]:
        """The loss of one step.

        Args:
            inputs: int64 [batch, time].
            targets: int64 [batch, time], one token ahead.
            state: The state of the same batch.
            candidates: See `projection_loss`.

        Returns:
            The loss to minimise, float32 []; the mean cross-entropy of a token, or its estimate by the candidates,
            float32 [], detached; the state after the last token, detached.
        """
        batch, time = inputs.shape
        factor = float(time) if self._summed else 1.0
        device = inputs.device.type
        layers_in_bf16 = layer_precision(self._precision, device) == "bf16"
        with bf16_layers() if layers_in_bf16 else contextlib.nullcontext():
            output, raw, new_state = self.network.read(inputs, state)
        with torch.autocast(device, enabled=False):
            projection = self.network.projection
            loss = projection_loss(
                output.flatten(0, 1),
                projection.weight,
                projection.bias,
                targets.flatten(),
                factor / (batch * time),
                self._dtype,
                self._workspace,
                candidates,
            )
            total = loss + factor * self._penalty(output, raw) if self._activation or self._temporal else loss
        detached = tuple(tuple(tensor.detach() for tensor in layer) for layer in new_state)
        return total, loss.detach() / factor, detached

    def _penalty(self, output: Tensor, raw: Tensor) -> Tensor:
        """AR and TAR of arXiv 1708.01009, float32 []; `output` and `raw` are [batch, time, width]."""
        penalty = self._activation * output.square().mean()
        if raw.shape[1] > 1:
            penalty = penalty + self._temporal * (raw[:, 1:] - raw[:, :-1]).square().mean()
        return penalty

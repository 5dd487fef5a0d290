"""Projection, softmax and cross-entropy as one function, with its gradients computed on the way.

Three matrix products and one pass of `exp` over a matrix [vocabulary, tokens], which is the only thing of that size.
Every token's logits are taken relative to its target's, which two extra columns of the product subtract, so that the
loss is log sum exp of them, and no pass for the maximum, the sum, or a division is left: the sum comes out of the
product that gives the hidden vectors' gradient (by a column of ones), the division goes to the smaller matrix. Where a
logit lies so far above its target's that `exp` grows too large, all are computed again relative to the largest ones."""

from typing import Any, final

import torch
from torch import Tensor, nn

from ..network import LanguageModel, NetworkState
from .config import TrainConfig

_LARGEST_SUM = 1e30
"""Of exponentials relative to the target's: above it, products or reciprocals may leave float32's range."""
_ALIGNMENT = 32
_EXTRA = 4
"""Columns beside the weights': the bias in two parts, and ones for the shift in two parts; the latter also sum."""


@final
class Workspace:
    """Memory for one shape of `projection_loss`, so that it is not asked for anew at every step."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A buffer of this shape; its content is arbitrary."""
        size = shape[0] * shape[1]
        held = self._buffers.get(name)
        if held is None or held.numel() < size or held.dtype != dtype or held.device != device:
            held = self._buffers[name] = torch.empty(size, dtype=dtype, device=device)
        return held[:size].view(shape)


def projection_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    scale: float,
    dtype: torch.dtype,
    workspace: Workspace,
) -> Tensor:
    """`scale` x the summed cross-entropy of `hidden @ weight.T + bias` and `targets`.

    Args:
        hidden: float32 [tokens, width].
        weight: float32 [vocabulary, width].
        bias: float32 [vocabulary].
        targets: int64 [tokens].
        scale: What the loss, and so its gradient, is multiplied by.
        dtype: Numbers in the products: float32, or bfloat16; these are summed in float32 and their results rounded.
        workspace: Memory that is used again at the next call.

    Returns:
        float32 [], differentiable by hidden, weight and bias.
    """
    loss: Tensor = _ProjectionLoss.apply(hidden, weight, bias, targets, scale, dtype, workspace)  # type: ignore[no-untyped-call]
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
    ) -> Tensor:
        tokens, width = hidden.shape
        own = weight[targets]
        shift = (hidden * own).sum(1) + bias[targets]
        left = _weights_with_columns(weight, bias, dtype, workspace)
        right = _hidden_with_rows(hidden, shift, dtype, workspace)
        exps = workspace.take("exps", (len(weight), tokens), dtype, hidden.device)
        torch.mm(left, right, out=exps)
        exps.exp_()
        by_hidden = torch.mm(left.t(), exps).float()  # [width + extra, tokens]
        sums = by_hidden[width + 2]
        if not bool((sums < _LARGEST_SUM).all()):
            torch.mm(left, right, out=exps)
            largest = exps.amax(0)
            exps.sub_(largest).exp_()
            by_hidden = torch.mm(left.t(), exps).float()
            sums = by_hidden[width + 2]
            loss = sums.log().add_(largest.float()).sum()
        else:
            loss = sums.log().sum()
        shares = scale / sums
        d_hidden = by_hidden[:width].mul_(shares).t().sub_(own, alpha=scale)
        right[:width] = (hidden * shares[:, None]).t()
        right[width] = shares
        by_weight = torch.mm(exps, right.t())
        d_weight = by_weight[:, :width].float().index_add_(0, targets, hidden, alpha=-scale)
        counts = torch.bincount(targets, minlength=len(weight))
        d_bias = by_weight[:, width].float().sub_(counts, alpha=scale)
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        return loss * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = gradients
        found = ctx.saved_tensors
        if float(factor) != 1.0:
            found = tuple(tensor * factor for tensor in found)
        return (*found, None, None, None, None)


def _weights_with_columns(weight: Tensor, bias: Tensor, dtype: torch.dtype, workspace: Workspace) -> Tensor:
    """[vocabulary, width + extra]: the weights, the bias in two parts, and ones."""
    width = weight.shape[1]
    left = workspace.take("left", (len(weight), _aligned(width + _EXTRA)), dtype, weight.device)
    left[:, :width] = weight
    left[:, width], left[:, width + 1] = _parts(bias, dtype)
    left[:, width + 2 : width + 4] = 1
    left[:, width + 4 :] = 0
    return left


def _hidden_with_rows(hidden: Tensor, shift: Tensor, dtype: torch.dtype, workspace: Workspace) -> Tensor:
    """[width + extra, tokens]: the hidden vectors, ones for the bias, and the negative shift in two parts."""
    tokens, width = hidden.shape
    right = workspace.take("right", (_aligned(width + _EXTRA), tokens), dtype, hidden.device)
    right[:width] = hidden.t()
    right[width : width + 2] = 1
    right[width + 2], right[width + 3] = _parts(-shift, dtype)
    right[width + 4 :] = 0
    return right


def _parts(numbers: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two numbers whose sum is nearer to each number than one could be where products take bf16 or TF32."""
    first = numbers.to(torch.bfloat16).float()
    return first.to(dtype), (numbers - first).to(dtype)


def _aligned(width: int) -> int:
    """The next multiple of what matrix units want a row's length to be; the columns added are zero."""
    return -(-width // _ALIGNMENT) * _ALIGNMENT


@final
class Objective(nn.Module):
    """The loss of one step as a module, so that it can be spread over processes.

    The loss of the recipes is summed over the time steps and averaged over the batch (`loss_over_time="sum"`).
    """

    def __init__(self, network: LanguageModel, config: TrainConfig) -> None:
        """Take the network, and from the configuration precision, penalties and the loss over time."""
        super().__init__()
        self.network = network
        self._dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        self._summed = config.loss_over_time == "sum"
        self._activation, self._temporal = config.activation_penalty, config.temporal_penalty
        self._workspace = Workspace()

    def forward(self, inputs: Tensor, targets: Tensor, state: NetworkState) -> tuple[Tensor, Tensor, NetworkState]:
        """The loss of one step.

        Args:
            inputs: int64 [batch, time].
            targets: int64 [batch, time], one token ahead.
            state: The state of the same batch.

        Returns:
            The loss to minimise, float32 []; the mean cross-entropy of a token, float32 [], detached; the state after
            the last token, detached.
        """
        batch, time = inputs.shape
        factor = float(time) if self._summed else 1.0
        kind = inputs.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self._dtype == torch.bfloat16):
            output, raw, after = self.network.read(inputs, state)
        with torch.autocast(kind, enabled=False):
            projection = self.network.projection
            loss = projection_loss(
                output.flatten(0, 1),
                projection.weight,
                projection.bias,
                targets.flatten(),
                factor / (batch * time),
                self._dtype,
                self._workspace,
            )
            total = loss + factor * self._penalty(output, raw) if self._penalised else loss
        kept = tuple(tuple(tensor.detach() for tensor in layer) for layer in after)
        return total, loss.detach() / factor, kept

    @property
    def _penalised(self) -> bool:
        return self._activation > 0 or self._temporal > 0

    def _penalty(self, output: Tensor, raw: Tensor) -> Tensor:
        penalty = self._activation * output.square().mean()
        if raw.shape[1] > 1:
            penalty = penalty + self._temporal * (raw[:, 1:] - raw[:, :-1]).square().mean()
        return penalty

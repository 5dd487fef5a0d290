"""What a training step minimises: cross-entropy of the next token, and penalties of the activations."""

from typing import final

import torch
from torch import Tensor, nn

from .config import TrainConfig
from .loss import Workspace, projection_loss
from .network import LanguageModel, NetworkState


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

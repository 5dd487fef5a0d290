"""Optimizers, gradient clipping, and averages of the weights over the steps of a training."""

import contextlib
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor, nn

from ..checkpoint import validate_tensors
from ..errors import CheckpointError
from ..network import LanguageModel
from .config import TrainConfig
from .muon import Muon

_STEP, _FACTOR = "step", "factor"


@final
class Optimizers:
    """The optimizers of a network: one of all parameters, or for `muon` one of layers' matrices and AdamW of the rest.

    Attributes:
        parameters: The parameters that are trained.
    """

    def __init__(self, config: TrainConfig, network: LanguageModel) -> None:
        """Make the optimizers that the configuration names."""
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._all = _make_optimizers(config, network, self.parameters)
        self._of = {
            parameter: optimizer
            for optimizer in self._all
            for group in optimizer.param_groups
            for parameter in group["params"]
        }

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        return float(self._all[0].param_groups[0]["lr"])

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self._all:
            optimizer.zero_grad()

    def step(self, learning_rate: float) -> None:
        """Update the parameters once."""
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group.get(_FACTOR, 1.0)
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """The optimizers' state as `INDEX.NAME` -> tensor, INDEX counting the parameters."""
        return {
            f"{index}.{name}": torch.as_tensor(value)
            for index, parameter in enumerate(self.parameters)
            for name, value in self._of[parameter].state.get(parameter, {}).items()
            if value is not None
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned.

        Raises:
            CheckpointError: It is of other parameters or of another optimizer.
        """
        shapes = {
            f"{index}.{name}": () if name == _STEP else parameter.shape
            for index, parameter in enumerate(self.parameters if tensors else [])
            for name in _state_names(self._of[parameter])
        }
        for key, tensor in validate_tensors("optimizer", tensors, shapes).items():
            index, _, name = key.partition(".")
            parameter = self.parameters[int(index)]
            self._of[parameter].state[parameter][name] = tensor.to(parameter.device)


def _make_optimizers(
    config: TrainConfig, network: LanguageModel, parameters: list[nn.Parameter]
) -> list[torch.optim.Optimizer]:
    rate, decay = config.initial_rate, config.weight_decay
    if config.optimizer == "sgd":
        return [torch.optim.SGD(parameters, rate, weight_decay=decay)]
    betas = (config.beta1, 0.999)
    if config.optimizer != "muon":
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        return [kind(parameters, rate, betas=betas, weight_decay=decay, fused=True)]
    matrices = [parameter for parameter in network.layers.parameters() if parameter.dim() == 2]
    layers = set(matrices)
    rest = [parameter for parameter in parameters if parameter not in layers]
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    return [
        Muon(matrices, rate, weight_decay=decay, dtype=dtype),
        torch.optim.AdamW(
            [{"params": rest, _FACTOR: config.adamw_factor}], rate, betas=betas, weight_decay=decay, fused=True
        ),
    ]


def _state_names(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    if isinstance(optimizer, torch.optim.SGD):
        return ()
    return Muon.STATE if isinstance(optimizer, Muon) else (_STEP, "exp_avg", "exp_avg_sq")


def updates_touched_rows(config: TrainConfig) -> bool:
    """Whether a step changes only the embeddings of the tokens that it reads, so that their gradient is sparse."""
    return config.optimizer == "sgd" and config.weight_decay == 0 and not config.tied


def clip_gradients(parameters: list[nn.Parameter], largest_norm: float) -> float:
    """Scale all gradients so that their global norm is at most `largest_norm`; returns the norm before that."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is not None:
            if parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad.values() if parameter.grad.is_sparse else parameter.grad)
    norm = float(nn.utils.get_total_norm(gradients))
    factor = largest_norm / (norm + 1e-6)
    if factor < 1:
        for gradient in gradients:
            gradient.mul_(factor)
    return norm


@final
class WeightAverage:
    """The weight average of a configuration (Polyak and Juditsky 1992; NT-ASGD, arXiv 1708.02182)."""

    def __init__(self, config: TrainConfig, network: LanguageModel) -> None:
        self._network = network
        self._decay = config.averaging_decay if config.averaging == "exponential" else None
        self._steps = 0
        self._average: dict[str, Tensor] = {}
        if config.averaging in ("uniform", "exponential"):
            self.start()

    @property
    def active(self) -> bool:
        """Whether the average has started."""
        return bool(self._average)

    def start(self) -> None:
        """Start with the current weights, unless it has started."""
        if not self.active:
            self._average = {name: tensor.clone() for name, tensor in self._network.weights().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights after one more step, if the average has started."""
        if not self.active:
            return
        self._steps += 1
        kept = 1 - 1 / self._steps
        if self._decay is not None:
            kept = min(self._decay, self._steps / (10 + self._steps))
        weights = self._network.weights()
        for name, average in self._average.items():
            average.lerp_(weights[name], 1 - kept)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Give the network the averaged weights within the block, if there are any."""
        current = {name: tensor.clone() for name, tensor in self._network.weights().items()} if self.active else {}
        self._network.load_weights(self._average)
        try:
            yield
        finally:
            self._network.load_weights(current)

    def tensors(self) -> dict[str, Tensor]:
        """The average's tensors, for a checkpoint."""
        return {**self._average, "steps": torch.tensor(self._steps)} if self.active else {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned.

        Raises:
            CheckpointError: It is the average of another network, or its number of steps is invalid.
        """
        average = dict(tensors)
        steps = average.pop("steps", torch.tensor(0))
        if steps.dtype != torch.int64 or steps.dim() or int(steps) < 0:
            raise CheckpointError("the checkpoint's average has an invalid number of steps")
        weights = self._network.weights() if average else {}
        validate_tensors("average", average, {name: weight.shape for name, weight in weights.items()})
        device = self._network.projection.weight.device
        self._steps, self._average = int(steps), {name: tensor.to(device) for name, tensor in average.items()}

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

_STEP = "step"
_ADAM_STATE = (_STEP, "exp_avg", "exp_avg_sq")


def make_optimizer(config: TrainConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of a configuration; set its learning rate before each step."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.learning_rate, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    betas = (config.beta1, 0.999)
    return kind(parameters, config.learning_rate, betas=betas, weight_decay=config.weight_decay, fused=True)


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


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as `INDEX.NAME` -> tensor, INDEX counting the parameters."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, entry in state.items()
        for name, value in entry.items()
        if value is not None
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], tensors: dict[str, Tensor]
) -> None:
    """Restore the state that `optimizer_tensors` returned.

    Raises:
        CheckpointError: It is of other parameters or of another optimizer.
    """
    kinds = () if isinstance(optimizer, torch.optim.SGD) or not tensors else _ADAM_STATE
    shapes = {
        f"{index}.{kind}": () if kind == _STEP else parameter.shape
        for index, parameter in enumerate(parameters)
        for kind in kinds
    }
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in validate_tensors("optimizer", tensors, shapes).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


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

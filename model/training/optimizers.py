"""Averages of the weights over the steps of a training, which often predict better than the last weights."""

import contextlib
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor, nn

from ..checkpoint import checked_tensors
from ..errors import CheckpointError
from ..network import LanguageModel
from .config import TrainConfig


@final
class WeightAverage:
    """The average that a configuration asks for (Polyak and Juditsky 1992; NT-ASGD, arXiv 1708.02182)."""

    def __init__(self, config: TrainConfig, network: LanguageModel) -> None:
        """Be ready for the first `update`, unless the configuration waits for `trigger` or wants none."""
        self._network = network
        self._decay = config.averaging_decay if config.averaging == "exponential" else None
        self._steps = 0
        self._average: dict[str, Tensor] = {}
        if config.averaging in ("uniform", "exponential"):
            self.trigger()

    @property
    def active(self) -> bool:
        """Whether there is an average."""
        return bool(self._average)

    def trigger(self) -> None:
        """Begin with the weights as they are; an average that has begun goes on."""
        if not self.active:
            self._average = {name: tensor.clone() for name, tensor in self._network.weights().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of one more step in, if the average has begun."""
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
        """Within the block the network has the averaged weights, if there are any."""
        own = {name: tensor.clone() for name, tensor in self._network.weights().items()} if self.active else {}
        self._set(self._average)
        try:
            yield
        finally:
            self._set(own)

    def tensors(self) -> dict[str, Tensor]:
        """All of it, for a checkpoint."""
        return {**self._average, "steps": torch.tensor(self._steps)} if self.active else {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` gave.

        Raises:
            CheckpointError: It is the average of another network, or of no number of steps.
        """
        held = dict(tensors)
        steps = held.pop("steps", torch.tensor(0))
        if steps.dtype != torch.int64 or steps.dim() or int(steps) < 0:
            raise CheckpointError("the checkpoint's average is of no number of steps")
        weights = self._network.weights() if held else {}
        checked_tensors("average", held, {name: weight.shape for name, weight in weights.items()})
        device = self._network.projection.weight.device
        self._steps, self._average = int(steps), {name: tensor.to(device) for name, tensor in held.items()}

    @torch.no_grad()
    def _set(self, tensors: dict[str, Tensor]) -> None:
        weights = self._network.weights()
        for name, tensor in tensors.items():
            weights[name].copy_(tensor)


_STEP = "step"
_ADAM_STATE = (_STEP, "exp_avg", "exp_avg_sq")


def make_optimizer(config: TrainConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a configuration, its learning rate to be set before each step."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.learning_rate, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    betas = (config.beta1, 0.999)
    return kind(parameters, config.learning_rate, betas=betas, weight_decay=config.weight_decay, fused=True)


def updates_touched_rows(config: TrainConfig) -> bool:
    """Whether a step leaves the vectors of words that it did not see as they are."""
    return config.optimizer == "sgd" and config.weight_decay == 0 and not config.tied


def clip_gradients(parameters: list[nn.Parameter], largest_norm: float) -> float:
    """Scale all gradients down together where their global norm is above `largest_norm`; returns what it was."""
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
    """The optimiser's state as `INDEX.NAME` -> tensor, INDEX counting the parameters."""
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
    """Set the state that `optimizer_tensors` gave.

    Raises:
        CheckpointError: It is of other parameters or of another optimiser.
    """
    kinds = () if isinstance(optimizer, torch.optim.SGD) or not tensors else _ADAM_STATE
    expected = {
        f"{index}.{kind}": () if kind == _STEP else parameter.shape
        for index, parameter in enumerate(parameters)
        for kind in kinds
    }
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in checked_tensors("optimizer", tensors, expected).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

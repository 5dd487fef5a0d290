"""The optimiser: making it, its state as named tensors, and clipping."""

import torch
from torch import Tensor, nn

from .checkpoint import checked_tensors
from .config import TrainConfig

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

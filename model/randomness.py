"""The state of torch's random numbers, of which dropout draws, as tensors for a checkpoint."""

import torch
from torch import Tensor

from .errors import CheckpointError


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of the processor's generator and, where it is used, of the GPU's."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Go on from what `random_state` gave.

    Raises:
        CheckpointError: There is none for this process, or it is none of torch's.
    """
    if "cpu" not in state:
        raise CheckpointError("the checkpoint lacks the random state of this process")
    try:
        torch.set_rng_state(state["cpu"])
        if device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], device)
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"the checkpoint's random state is none of this torch: {error}") from error

"""Several processes that train one network together, as `torchrun -m lmtool.cli train ...` starts them."""

import datetime
import os
from dataclasses import dataclass
from typing import Any, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")
_PATIENCE = datetime.timedelta(hours=2)
"""How long a process waits for the others; the first one evaluates alone meanwhile."""


@final
@dataclass(frozen=True)
class Processes:
    """This process among all; alone, nothing is exchanged.

    Attributes:
        rank: Number of this process, from 0.
        count: Number of processes.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: str) -> "Processes":
        """Meet the others that torchrun started, if it did: over gloo, or NCCL for CUDA."""
        if not dist.is_torchelastic_launched():
            return cls()
        if not dist.is_initialized():
            if device == "cuda":
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process writes the files and reports."""
        return self.rank == 0

    @property
    def on_this_machine(self) -> int:
        """How many of them share this machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if self.count > 1 else 1

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            dist.barrier()

    def spread(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module whose gradients are the mean over all processes."""
        if self.count == 1:
            return module
        places = [torch.cuda.current_device()] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=places, broadcast_buffers=False)

    def mean(self, value: Tensor) -> float:
        """The mean of a scalar over all processes."""
        if self.count > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value.item() / self.count

    def largest(self, number: int, device: torch.device) -> int:
        """The largest of the processes' numbers."""
        if self.count == 1:
            return number
        held = torch.tensor(number, device=device)
        dist.all_reduce(held, dist.ReduceOp.MAX)
        return int(held)

    def from_first(self, value: T) -> T:
        """The first process's value, in every process."""
        if self.count == 1:
            return value
        held: list[Any] = [value]
        dist.broadcast_object_list(held)
        return held[0]  # type: ignore[no-any-return]

    def gathered(self, tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The tensors of every process, on the CPU, in order of the ranks."""
        held = {name: tensor.cpu() for name, tensor in tensors.items()}
        if self.count == 1:
            return [held]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, held)
        return found

    def leave(self) -> None:
        """Part from the others."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()

"""Several processes that train one network together, as `torchrun -m lmtool.cli train ...` starts them."""

import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ...runtime.errors import LmtoolError, ProviderError
from ..errors import TrainingError

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
        """Meet the others that torchrun started, if it did: over gloo, or NCCL for CUDA.

        Raises:
            ProviderError: There are more processes on this machine than GPUs.
            TrainingError: Another process has failed; the methods that exchange something raise it too.
        """
        if not dist.is_torchelastic_launched():
            return cls()
        if device == "cuda":
            _choose_gpu(int(os.environ["LOCAL_RANK"]))
        with _together():
            dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process writes the files and reports."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """The rows of a batch that are this process's; `batch_size` is a multiple of the count."""
        share = batch_size // self.count
        return slice(self.rank * share, (self.rank + 1) * share)

    @property
    def on_this_machine(self) -> int:
        """How many of them share this machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if self.count > 1 else 1

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            with _together():
                dist.barrier()

    def spread(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module whose gradients are the mean over all processes."""
        if self.count == 1:
            return module
        places = [torch.cuda.current_device()] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=places)

    def mean(self, value: Tensor) -> float:
        """The mean of a scalar over all processes."""
        if self.count > 1:
            value = value.clone()
            with _together():
                dist.all_reduce(value)
        return value.item() / self.count

    def largest(self, number: int, device: torch.device) -> int:
        """The largest of the processes' numbers."""
        if self.count == 1:
            return number
        held = torch.tensor(number, device=device)
        with _together():
            dist.all_reduce(held, dist.ReduceOp.MAX)
        return int(held)

    def from_first(self, value: T) -> T:
        """The first process's value, in every process."""
        if self.count == 1:
            return value
        held: list[Any] = [value]
        with _together():
            dist.broadcast_object_list(held)
        return held[0]  # type: ignore[no-any-return]

    def agree(self, failure: LmtoolError | None) -> None:
        """Raise the first process's failure in every process, if there is one."""
        found = self.from_first(failure)
        if found is not None:
            raise found

    def gathered(self, tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The tensors of every process, on the CPU, in order of the ranks."""
        held = {name: tensor.cpu() for name, tensor in tensors.items()}
        if self.count == 1:
            return [held]
        found: list[Any] = [None] * self.count
        with _together():
            dist.all_gather_object(found, held)
        return found

    def leave(self) -> None:
        """Part from the others."""
        if dist.is_initialized():
            dist.destroy_process_group()


def _choose_gpu(index: int) -> None:
    found = torch.cuda.device_count()
    if index >= found:
        raise ProviderError(
            f"process {index} of this machine finds {found} GPUs; "
            f"start at most one process a GPU: --nproc-per-node {found}"
        )
    torch.cuda.set_device(index)


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """What another process's end does to this one is an error of the family."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(f"another process has failed, see its message ({str(error).splitlines()[0]})") from error

"""Data-parallel training by several processes, started with `torchrun -m lmtool.cli -- train ...`."""

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
_TIMEOUT = datetime.timedelta(hours=2)
"""How long a process waits for the others; only the first one evaluates."""


@final
@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train one network; a group of one exchanges nothing.

    Every method that exchanges data raises `TrainingError` if another process has failed.

    Attributes:
        rank: Number of this process, from 0.
        count: Number of processes.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: str) -> "ProcessGroup":
        """Join the processes that torchrun started, if it did: over gloo, or NCCL for CUDA.

        Raises:
            ProviderError: There are more processes on this machine than GPUs.
            TrainingError: Another process has failed.
        """
        if not dist.is_torchelastic_launched():
            return cls()
        if device == "cuda":
            _choose_gpu(int(os.environ["LOCAL_RANK"]))
        with _translate_errors():
            dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_TIMEOUT)
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process writes the files and reports."""
        return self.rank == 0

    @property
    def on_this_machine(self) -> int:
        """Number of processes on this machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if self.count > 1 else 1

    def rows(self, batch_size: int) -> slice:
        """This process' rows of a batch; `batch_size` is a multiple of the count."""
        share = batch_size // self.count
        return slice(self.rank * share, (self.rank + 1) * share)

    def data_parallel(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Wrap a module so that its gradients are averaged over all processes."""
        if self.count == 1:
            return module
        device_ids = [torch.cuda.current_device()] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=device_ids)

    def mean(self, value: Tensor) -> float:
        """The mean of a scalar over all processes."""
        if self.count > 1:
            value = value.clone()
            with _translate_errors():
                dist.all_reduce(value)
        return value.item() / self.count

    def maximum(self, number: int, device: torch.device) -> int:
        """The largest number of all processes."""
        if self.count == 1:
            return number
        tensor = torch.tensor(number, device=device)
        with _translate_errors():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def broadcast(self, value: T) -> T:
        """The first process' value, in every process."""
        if self.count == 1:
            return value
        values: list[Any] = [value]
        with _translate_errors():
            dist.broadcast_object_list(values)
        return values[0]  # type: ignore[no-any-return]

    def raise_on_all(self, error: LmtoolError | None) -> None:
        """Raise the first process' error, if there is one, in every process."""
        error = self.broadcast(error)
        if error is not None:
            raise error

    def gather(self, tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The tensors of every process, on the CPU, by rank."""
        on_cpu = {name: tensor.cpu() for name, tensor in tensors.items()}
        if self.count == 1:
            return [on_cpu]
        gathered: list[Any] = [None] * self.count
        with _translate_errors():
            dist.all_gather_object(gathered, on_cpu)
        return gathered

    def leave(self) -> None:
        """Leave the group."""
        if dist.is_initialized():
            dist.destroy_process_group()


def _choose_gpu(index: int) -> None:
    gpus = torch.cuda.device_count()
    if index >= gpus:
        raise ProviderError(
            f"process {index} of this machine finds {gpus} GPUs; "
            f"start at most one process a GPU: --nproc-per-node {gpus}"
        )
    torch.cuda.set_device(index)


@contextlib.contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise `TrainingError` when another process ends during an exchange."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(f"another process has failed, see its message ({str(error).splitlines()[0]})") from error

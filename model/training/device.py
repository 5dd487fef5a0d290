"""Which numbers matrix products take: what a device can do, and the switches of torch."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from ...runtime.system import processor_name
from ..errors import ConfigError, TrainingError
from .distributed import Processes


def resolved_precision(wanted: str, device: str) -> str:
    """`fp32`, `tf32` or `bf16` for what a configuration wants on `cpu` or `cuda`.

    `auto` is bf16 where the device has units for it: a GPU since Ampere, a processor with AMX.

    Raises:
        ConfigError: The device cannot do it.
    """
    if wanted == "tf32" and device != "cuda":
        raise ConfigError("precision is 'tf32', which only CUDA devices know; expected fp32, bf16 or auto")
    if wanted != "auto":
        return wanted
    has_units = torch.cuda.is_bf16_supported(including_emulation=False) if device == "cuda" else _has_amx()
    return "bf16" if has_units else "fp32"


def set_precision(precision: str) -> None:
    """Set the switches of torch that are global: TF32 if and only if it is asked for, and sums of bf16 in float32."""
    allowed = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def _has_amx() -> bool:
    """Whether the processor multiplies bf16 matrices; a torch too old to tell counts as no."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


@contextlib.contextmanager
def enough_memory() -> Iterator[None]:
    """Run the block.

    Raises:
        TrainingError: Memory did not suffice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "alloc_cpu" not in str(error):
            raise
        raise TrainingError(
            "there is not enough memory for this network and batch; "
            "try smaller layer_sizes, embedding_size, batch_size or steps, or rarer words left out (min_count)"
        ) from error


def environment(device: str, processes: Processes) -> dict[str, Any]:
    """Device, threads and processes, versions, and the switches that decide how exact a GPU's products are."""
    return {
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else processor_name(),
        "threads": torch.get_num_threads(),
        "processes": processes.count,
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version() if device == "cuda" else None,  # type: ignore[no-untyped-call]
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }

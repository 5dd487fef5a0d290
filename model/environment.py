"""What a training ran on, for its run folder."""

import platform
from typing import Any

import torch

from .processes import Processes


def environment(device: str, processes: Processes) -> dict[str, Any]:
    """Device, threads and processes, versions, and the switches that decide how exact a GPU's products are."""
    return {
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "processes": processes.count,
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version() if device == "cuda" else None,  # type: ignore[no-untyped-call]
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }

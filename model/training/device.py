"""Devices: precision of matrix products, errors when memory runs out, facts for the run folder."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import torch

from ...runtime.session.cuda import driver_fault
from ...runtime.system import processor_name
from ..errors import ConfigError, TrainingError
from .config import TrainConfig
from .distributed import ProcessGroup


def device_fault(device: str) -> str | None:
    """Why torch cannot use the device, `cpu` or `cuda`, and the fix; None if it can."""
    if device == "cpu" or torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        fix = "it is built without CUDA; install a CUDA build: https://pytorch.org/get-started/locally"
    else:
        fix = driver_fault() or f"update the NVIDIA driver, it may be too old for CUDA {torch.version.cuda}"
    return f"torch {torch.__version__} finds no CUDA device; {fix}"


def resolve_precision(config: TrainConfig, device: str) -> TrainConfig:
    """The configuration with `auto` replaced by the device's precision; `device` is `cpu` or `cuda`.

    `auto` is bf16 where the device multiplies it (a GPU since Ampere, an x86 processor with AMX or with AVX-512 BF16),
    else fp32.

    Raises:
        ConfigError: The device does not support the precision.
    """
    if config.precision == "tf32" and device != "cuda":
        raise ConfigError("precision is 'tf32', which only CUDA devices know; expected fp32, bf16 or auto")
    if config.precision != "auto":
        return config
    has_units = torch.cuda.is_bf16_supported(including_emulation=False) if device == "cuda" else _multiplies_bf16()
    return dataclasses.replace(config, precision="bf16" if has_units else "fp32")


def set_precision(precision: str) -> None:
    """Set torch's global switches: TF32 only where it is chosen, and sums of bf16 products in float32."""
    use_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = use_tf32
    torch.backends.cudnn.allow_tf32 = use_tf32
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def layer_precision(precision: str, device: str) -> str:
    """Precision of the products in recurrent layers, on `cpu` or `cuda`.

    For `bf16` on CUDA it is `fp32`: torch's autocast passes float16 to cuDNN's recurrent layers, whatever type it is
    asked for.
    """
    return "fp32" if (precision, device) == ("bf16", "cuda") else precision


@contextlib.contextmanager
def bf16_layers() -> Iterator[None]:
    """Compute layers on the CPU in bf16 within the block.

    torch prefers oneDNN's LSTM, which fails in bf16 on processors without AVX-512. There it is switched off, and
    torch's own LSTM does the same products, slowly.
    """
    onednn = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = onednn and _onednn_has_bf16_lstm()  # type: ignore[assignment]
    try:
        # without a cache: it would keep casts that were made without gradients
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            yield
    finally:
        torch.backends.mkldnn.enabled = onednn


@functools.cache
def _onednn_has_bf16_lstm() -> bool:
    """Whether an LSTM of one unit can be trained in bf16 as torch runs it by default."""
    ones = torch.ones(1, 1, 1)
    weights = [torch.ones(4, 1, requires_grad=True), torch.ones(4, 1, requires_grad=True), torch.ones(4), torch.ones(4)]
    try:
        with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16):
            output, *_ = torch.lstm(ones, (ones, ones), weights, True, 1, 0.0, True, False, True)
        output.float().sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError:
        return False
    return True


def _multiplies_bf16() -> bool:
    """Whether an x86 processor has instructions for products of bf16; False where torch is too old to tell."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


@contextlib.contextmanager
def translate_memory_errors() -> Iterator[None]:
    """Raise `TrainingError` when memory runs out within the block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "alloc_cpu" not in str(error):
            raise
        raise TrainingError(
            "there is not enough memory for this network and batch; "
            "try smaller layer_sizes, embedding_size, batch_size or steps, or rarer words left out (min_count)"
        ) from error


def environment(device: str, precision: str, group: ProcessGroup) -> dict[str, Any]:
    """Device, threads, processes, versions, the recurrent layers' precision, and whether a GPU's products are TF32."""
    return {
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else processor_name(),
        "threads": torch.get_num_threads(),
        "processes": group.count,
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version() if device == "cuda" else None,  # type: ignore[no-untyped-call]
        "recurrent_layers": layer_precision(precision, device),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }

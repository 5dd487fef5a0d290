"""NVIDIA's driver and libraries: loading them, and what is missing where CUDA cannot start."""

import ctypes
import sys
from types import ModuleType

_DRIVER, _CUDNN = ("nvcuda.dll", "cudnn64_9.dll") if sys.platform == "win32" else ("libcuda.so.1", "libcudnn.so.9")
_GIVE_GPUS = "a container gets it and the GPUs from its host: docker run --gpus all"


def load_libraries(onnxruntime: ModuleType) -> list[str]:
    """Load the CUDA libraries of installed wheels; returns the names of those that are missing."""
    said: list[str] = []
    # onnxruntime would print on stdout, which is for the results of the application.
    onnxruntime.print = lambda *words: said.append(" ".join(map(str, words)))  # type: ignore[attr-defined]
    try:
        onnxruntime.preload_dlls()
    finally:
        del onnxruntime.print
    return [line.split()[3].rstrip(":") for line in said if line.startswith("Failed to load ")]


def cuda_fault(onnxruntime: ModuleType) -> str | None:
    """What keeps onnxruntime's CUDA provider from starting, and the fix; None if all is there."""
    if fault := driver_fault():
        return fault
    # onnxruntime 1.28 and newer load cuDNN, which recurrent layers need, at its first use.
    if missing := load_libraries(onnxruntime) or _missing_cudnn():
        return f"CUDA libraries are missing ({', '.join(missing)}): pip install 'onnxruntime-gpu[cuda,cudnn]'"
    return None


def _missing_cudnn() -> list[str]:
    try:
        ctypes.CDLL(_CUDNN)
    except OSError:
        return [_CUDNN]
    return []


def driver_fault() -> str | None:
    """What is wrong with the NVIDIA driver, and the fix; None if it finds a GPU."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return f"the NVIDIA driver is missing ({_DRIVER} cannot be loaded): install it; {_GIVE_GPUS}"
    count = ctypes.c_int()
    error = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if error or not count.value:
        return (
            f"the NVIDIA driver finds no GPU (CUDA error {error}): run nvidia-smi, look at CUDA_VISIBLE_DEVICES; "
            f"{_GIVE_GPUS}"
        )
    return None

"""The machine and versions that a measurement belongs to; memory of a process, and the cores it keeps to."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ..runtime.system import cpu_quota, processor_name, usable_cores
from .errors import BenchError
from .workers.energy import energy_source

NO_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}
"""Switches TF32 off in every NVIDIA library; the switches of torch and the providers miss some recurrent layers."""

_PACKAGES = (
    "lmtool",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "torch",
    "onnx",
    "openvino",
    "executorch",
    "tract",
    "opencv-python-headless",
    "iree-base-runtime",
    "mlcommons-loadgen",
    "pytest-benchmark",
)
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_PROCESSORS = Path("/proc/cpuinfo")
_QUERY = ("--query-gpu=name,driver_version", "--format=csv,noheader")


def describe_environment() -> dict[str, Any]:
    """Processor and its flags, cores, CPU quota, affinity, governor, energy counters, load, GPUs, system, versions.

    A fact that the system does not report is None or an empty list. The harness starts its workers with `NO_TF32`.
    """
    return {
        "processor": processor_name(),
        "flags": _flags(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "cpu_quota": cpu_quota(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "governor": _text(_GOVERNOR),
        "energy": energy_source(),
        "load_average": load_average(),
        "gpus": _gpus(),
        "tf32": NO_TF32,
        "system": f"{platform.system()} {platform.machine()}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
    }


def load_average() -> list[float] | None:
    """The load average of the last 1, 5 and 15 minutes; None if the system does not report it."""
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else None


def _flags() -> list[str]:
    """Flags of the first processor in Linux's words, sorted."""
    lines = (_text(_PROCESSORS) or "").splitlines()
    flags = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    return sorted(flags.split())


def _gpus() -> list[str]:
    """Name and driver of each NVIDIA GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    finished = subprocess.run([program, *_QUERY], capture_output=True, text=True, check=False)  # noqa: S603  # no input
    return finished.stdout.strip().splitlines() if finished.returncode == 0 else []


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def pin(threads: int) -> None:
    """Keep this process and its later children on its last `threads` cores, if the system supports it.

    The first cores handle most of a machine's interrupts.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def resident_bytes(process: int | str = "self") -> int:
    """Resident set of a process.

    Raises:
        BenchError: The system lacks Linux's /proc, or the process has ended.
    """
    size = _status(process, "VmRSS")
    if size is None:
        raise BenchError("the resident memory cannot be read; expected Linux's /proc/self/status; leave the memory out")
    return size


def forget_peak(process: int | str = "self") -> None:
    """Reset the peak resident set of a process to its current size, if the system allows it."""
    try:
        Path(f"/proc/{process}/clear_refs").write_text("5")
    except OSError:
        return  # the peak then counts from the start of the process


def peak_bytes(process: int | str = "self") -> int | None:
    """Peak resident set of a process since its start or `forget_peak`; None if the system does not report it."""
    return _status(process, "VmHWM")


def _status(process: int | str, name: str) -> int | None:
    lines = (_text(Path(f"/proc/{process}/status")) or "").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)

"""The machine and the versions that a measurement belongs to."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ..runtime.system import processor_name, usable_cores
from .errors import BenchError


def pin(threads: int) -> None:
    """Keep this process and its later children on the last `threads` of its cores, where the system can do that.

    The first cores take most of a machine's interrupts.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def resident_bytes(process: int | str = "self") -> int:
    """Resident set of a process.

    Raises:
        BenchError: The system does not tell it as Linux does, or the process is gone.
    """
    found = _status(process, "VmRSS")
    if found is None:
        raise BenchError("the resident memory cannot be read; expected Linux's /proc/self/status; leave the memory out")
    return found


def forget_peak(process: int | str = "self") -> None:
    """Let the highest resident set of a process begin anew at what it is now, where the system allows that."""
    try:
        Path(f"/proc/{process}/clear_refs").write_text("5")
    except OSError:
        return  # then the peak is that since the process began


def peak_bytes(process: int | str = "self") -> int | None:
    """Highest resident set of a process since it was forgotten; None where the system does not tell."""
    return _status(process, "VmHWM")


def _status(process: int | str, name: str) -> int | None:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


_PACKAGES = (
    "lmtool",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "torch",
    "onnx",
    "openvino",
    "mlcommons-loadgen",
    "pytest-benchmark",
)
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_PROCESSORS = Path("/proc/cpuinfo")
_QUERY = ("--query-gpu=name,driver_version", "--format=csv,noheader")

NO_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}
"""Keeps every NVIDIA library from TF32, whatever a runtime asks for: providers and torch have switches of their own for
matrix products, but not all of them for recurrent layers."""


def describe_environment() -> dict[str, Any]:
    """Processor, its flags, cores, affinity, governor, load, GPUs, system, Python and package versions.

    What the system does not tell is None, or an empty list. The harness starts its processes with `NO_TF32`.
    """
    return {
        "processor": processor_name(),
        "flags": _flags(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "governor": _text(_GOVERNOR),
        "load_average": load_average(),
        "gpus": _gpus(),
        "tf32": NO_TF32,
        "system": f"{platform.system()} {platform.machine()}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
    }


def load_average() -> list[float] | None:
    """Processes that were ready to run, on average over 1, 5 and 15 minutes; None where the system does not tell."""
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else None


def _flags() -> list[str]:
    """What the first processor can do, in Linux's words, sorted."""
    lines = (_text(_PROCESSORS) or "").splitlines()
    found = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    return sorted(found.split())


def _gpus() -> list[str]:
    """Name and driver of each NVIDIA GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    found = subprocess.run([program, *_QUERY], capture_output=True, text=True, check=False)  # noqa: S603  # no input
    return found.stdout.strip().splitlines() if found.returncode == 0 else []


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

"""The machine and the versions that a measurement belongs to."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from ..model.environment import processor_name
from ..model.threads import usable_cores
from .errors import BenchError

_PACKAGES = ("lmtool", "numpy", "onnxruntime", "onnxruntime-gpu", "torch", "onnx", "openvino", "pytest-benchmark")


def describe_environment() -> dict[str, Any]:
    """Processor, cores, load, system, Python and package versions."""
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
    }


def resident_bytes() -> int:
    """Resident set of this process.

    Raises:
        BenchError: The system does not tell it as Linux does.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError as error:
        raise BenchError(
            f"the resident memory cannot be read ({error}); expected Linux; leave the memory out"
        ) from error
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

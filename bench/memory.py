"""The resident set of a process, now and at its highest, as Linux tells them."""

from pathlib import Path

from .errors import BenchError


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

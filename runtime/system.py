"""The machine: usable cores and memory, the CPU quota, and the processor's name."""

import math
import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

_PROCESS = Path("/proc/self")


def usable_cores() -> int:
    """The number of threads that can run at once: the cores of this process, at most its CPU quota, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return min(cores, max(math.ceil(cpu_quota() or cores), 1))


def cpu_quota(process: Path = _PROCESS) -> float | None:
    """CPU time per time that Linux's control groups allow, as 1.5 for one and a half cores; None without a limit.

    A container has such a quota (`docker run --cpus 2`, `resources.limits.cpu`); the number of cores does not show it.

    Args:
        process: The process' folder in /proc.
    """
    with suppress(OSError):
        return min(filter(None, map(_quota, _groups(process, "cpu"))), default=None)
    return None  # not Linux


def usable_memory(process: Path = _PROCESS) -> int | None:
    """Bytes of memory of the machine, at most the limit of Linux's control groups; None where the system tells neither.

    A container has such a limit (`docker run --memory 2g`, `resources.limits.memory`).

    Args:
        process: The process' folder in /proc.
    """
    limits = []
    with suppress(AttributeError, OSError, ValueError):  # no POSIX system
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError):  # not Linux
        limits += filter(None, map(_memory_limit, _groups(process, "memory")))
    return min(limits, default=None)


def _groups(process: Path, controller: str) -> Iterator[Path]:
    """The folders of the process' groups of a controller: a limit of each group above holds too."""
    paths: dict[str, PurePosixPath] = {}  # controller -> group; the controller of version 2 is named ""
    for line in (process / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), PurePosixPath(path))
    for line in (process / "mountinfo").read_text().splitlines():
        place, _, kind = line.partition(" - ")
        name = {"cgroup": controller, "cgroup2": ""}.get(kind.split()[0])
        if name in paths and (name == "" or name in kind.split()[-1].split(",")):
            root, mounted = map(_unescaped, place.split()[3:5])
            yield from _up(Path(mounted), paths[name], root)


def _up(mounted: Path, group: PurePosixPath, root: str) -> Iterator[Path]:
    """The group's folder and those above it, up to the folder where `root` is mounted."""
    # A group outside `root` is not visible; the mounted folder then holds the limit of the container.
    visible = group.is_relative_to(root) and ".." not in group.parts
    parts = group.relative_to(root).parts if visible else ()
    for count in range(len(parts), -1, -1):
        yield mounted.joinpath(*parts[:count])


def _quota(group: Path) -> float | None:
    with suppress(OSError, ValueError):  # no such file; "max"
        if (group / "cpu.max").exists():
            quota, period = map(int, (group / "cpu.max").read_text().split())
        else:
            quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota / period if quota > 0 and period > 0 else None
    return None


def _memory_limit(group: Path) -> int | None:
    """Bytes; version 1 has a number beyond all memory for no limit."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no such file; "max"
            return int((group / name).read_text())
    return None


def _unescaped(text: str) -> str:
    """A path of mountinfo, which writes a space as `\\040`."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def processor_name() -> str:
    """The processor's name, or the machine type where the system does not report it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())

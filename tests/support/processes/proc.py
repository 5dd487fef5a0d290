"""Processes by /proc: which a command started, and which of them live on."""

import time
from pathlib import Path


def alive(pids: list[int]) -> list[str]:
    """The commands of those processes that live on, after some time to end in."""
    deadline = time.monotonic() + 2
    while found := [command for pid in pids if (command := command_of(pid))]:
        if time.monotonic() > deadline:
            return found
        time.sleep(0.02)
    return []


def command_of(pid: int) -> str:
    """What a process runs; nothing where it has ended."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """The processes that this one started, theirs, and so on."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return children + [found for child in children for found in descendants(child)]

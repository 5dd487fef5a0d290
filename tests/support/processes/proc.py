"""Descendants of a process and whether they are alive, from /proc."""

import time
from pathlib import Path


def alive(pids: list[int]) -> list[str]:
    """The command lines of the processes that are still alive after two seconds."""
    deadline = time.monotonic() + 2
    while commands := [command for pid in pids if (command := command_of(pid))]:
        if time.monotonic() > deadline:
            return commands
        time.sleep(0.02)
    return []


def command_of(pid: int) -> str:
    """The command line of a process; empty if it has ended."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """All descendants of a process."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return children + [pid for child in children for pid in descendants(child)]

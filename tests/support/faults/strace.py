"""A command under strace: which system calls touch its files, and faults injected into one of them."""

import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import pytest

from support.processes.commands import Command, Finished

_MAKES = ("mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "creat")
_OPENS = ("open", "openat", "openat2")
_FILLS = ("write", "pwrite64", "writev", "pwritev", "truncate", "ftruncate", "fallocate", "chmod", "fchmod", "fchmodat")
CALLS = (*_MAKES, *_OPENS, *_FILLS, "fsync", "fdatasync", "close")
"""System calls that write files, under all their names."""

READS = (
    *("stat", "lstat", "fstat", "newfstatat", "statx", "statfs", "fstatfs", "access", "faccessat", "faccessat2"),
    *("readlink", "readlinkat", "read", "readv", "pread64", "lseek", "getdents64", "fadvise64", "readahead"),
    *("fcntl", "flock", "ioctl", "mmap", "munmap", "getcwd", "chdir", "fchdir", "inotify_add_watch"),
)
"""System calls that only read files; `mmap` only without write-back."""

_CALL = re.compile(r"^\d+ +[\d.]+ +(\w+)\((.*)")
_CURRENT_FOLDER = re.compile(r"AT_FDCWD(<[^>]*>)?")
_PATHS = re.compile(r'"(/[^"]*)"|<(/[^>]*)>')
_WRITES = ("O_CREAT", "O_WRONLY", "O_RDWR")


@final
@dataclass(frozen=True)
class Fault:
    """A fault in a system call.

    Attributes:
        call: Its name.
        number: Which of those that touch the watched files, from 1.
        effect: In the syntax of strace's `inject`: `error=ENOSPC`, `signal=SIGKILL`.
        lasting: Whether all later calls fail too.
    """

    call: str
    number: int
    effect: str
    lasting: bool = False

    @property
    def option(self) -> str:
        return f"inject={self.call}:{self.effect}:when={self.number}{'+' if self.lasting else ''}"


@final
@dataclass(frozen=True)
class Traced:
    """The file accesses of a command.

    Attributes:
        finished: Exit code and output.
        lines: Output of strace.
    """

    finished: Finished
    lines: list[str]

    def paths(self, folder: Path) -> set[str]:
        """The paths that were created, written or renamed in `folder`, and their folders."""
        changed = set()
        for line in self.lines:
            call, paths = _parsed(line)
            if call in _MAKES or (call in _OPENS and any(flag in line for flag in _WRITES)):
                changed |= {path for path in paths if path.startswith(f"{folder}/")}
        return changed | {str(Path(path).parent) for path in changed}

    def counts(self, watched: Iterable[str]) -> Counter[str]:
        """Number of calls of each kind that touch the watched files."""
        names = set(watched)
        return Counter(call for call, paths in map(_parsed, self.lines) if names & set(paths))

    def others(self, folder: Path) -> Counter[str]:
        """Number of calls that touch files in `folder` and are neither in `CALLS` nor in `READS`."""
        others = Counter[str]()
        for line in self.lines:
            call, paths = _parsed(line)
            written_back = "MAP_SHARED" in line and "PROT_WRITE" in line
            if any(path.startswith(f"{folder}/") for path in paths):
                others[call] += written_back or call not in (*CALLS, *READS)
        return +others

    def replaced(self, path: Path) -> int:
        """Number of times a file was renamed to this path."""
        return len(self._replacing(path))

    def until(self, path: Path) -> "Traced":
        """The accesses up to the first rename to this path."""
        return Traced(self.finished, self.lines[: self._replacing(path)[0] + 1])

    def _replacing(self, path: Path) -> list[int]:
        calls = enumerate(map(_parsed, self.lines))
        return [place for place, (call, paths) in calls if call.startswith("rename") and paths[-1:] == [str(path)]]

    def since(self, number: signal.Signals) -> "Traced":
        """The accesses from the first signal of this number on."""
        came = [position for position, line in enumerate(self.lines) if f"--- {number.name} " in line]
        assert came, f"{number.name} never came"
        return Traced(self.finished, self.lines[came[0] :])

    @property
    def seconds(self) -> float:
        """Time from the first line to the exit."""
        times = [float(line.split()[1]) for line in self.lines]
        return times[-1] - times[0]


def reason_against_strace() -> str:
    """Why strace cannot be used here; empty if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "strace may not trace processes here"


def require_strace() -> None:
    """Skip the test if strace is missing or not permitted."""
    if reason := reason_against_strace():
        pytest.skip(reason)


def run_traced(
    command: Command,
    log: Path,
    watched: Iterable[str] = (),
    fault: Fault | None = None,
    calls: Iterable[str] = CALLS,
) -> Traced:
    """Run a command from its start to its end.

    Args:
        command: Not yet released.
        log: File for the output of strace.
        watched: Trace only calls that touch these paths; empty: all.
        fault: Inject this fault.
        calls: Names of the calls to trace; empty: all. Names unknown to this machine are ignored.
    """
    options = ["-e", f"trace={','.join(f'?{call}' for call in calls) or 'all'}"]
    options += [part for path in sorted(watched) for part in ("-P", path)]
    options += [] if fault is None else ["-e", fault.option]
    arguments = ["strace", "-f", "-y", "-ttt", "-s", "0", "-o", str(log), *options, "-p", str(command.pid)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        if "attached" not in said:
            said += strace.stderr.readline()
        assert "attached" in said, said
        finished = command.go().finished()
    return Traced(finished, log.read_text().splitlines())


def faults(counts: Counter[str], effects: Sequence[str]) -> list[Fault]:
    """A fault for every effect and every call."""
    return [
        Fault(call, number, effect) for call in CALLS for number in range(1, counts[call] + 1) for effect in effects
    ]


def _parsed(line: str) -> tuple[str, list[str]]:
    """The call's name, and the paths that it touches by name or descriptor."""
    match = _CALL.match(line)
    if match is None:
        return "", []
    name, rest = match.groups()
    arguments = _CURRENT_FOLDER.sub("", rest.rpartition(" = ")[0] or rest)
    return name, [quoted or held for quoted, held in _PATHS.findall(arguments)]

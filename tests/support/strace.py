"""A command under strace: which system calls touch its files, and one of them made to fail or to be its last."""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import pytest
from commands import Command, Finished

CALLS = ("mkdir", "openat", "write", "fsync", "close", "rename", "unlink")
"""What writing a file takes."""

_CALL = re.compile(r"^\d+ +(\w+)\((.*)")
_PATHS = re.compile(r'"(/[^"]*)"|<(/[^>]*)>')
_WRITES = ("O_CREAT", "O_WRONLY", "O_RDWR")


@final
@dataclass(frozen=True)
class Fault:
    """What happens to a system call.

    Attributes:
        call: Its name.
        number: Which of those that touch the watched files, from 1.
        effect: As strace's `inject` takes it: `error=ENOSPC`, `signal=SIGKILL`.
        lasting: Whether it happens to all that follow too.
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
    """What a command did to files.

    Attributes:
        finished: How it ended.
        lines: strace's lines.
    """

    finished: Finished
    lines: list[str]

    def paths(self, folder: Path) -> set[str]:
        """What was made, written or renamed in `folder`, and the folders of that."""
        found = set()
        for line in self.lines:
            call, paths = _parsed(line)
            if call in ("mkdir", "rename", "unlink") or (call == "openat" and any(flag in line for flag in _WRITES)):
                found |= {path for path in paths if path.startswith(f"{folder}/")}
        return found | {str(Path(path).parent) for path in found}

    def counts(self, watched: Iterable[str]) -> Counter[str]:
        """How many calls of each kind touch the watched files."""
        names = set(watched)
        return Counter(call for call, paths in map(_parsed, self.lines) if names & set(paths))


def require_strace() -> None:
    """Skip the test where there is no strace, or it may not trace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("strace may not trace processes here")


def run_traced(command: Command, log: Path, watched: Iterable[str] = (), fault: Fault | None = None) -> Traced:
    """Run a command from its start to its end.

    Args:
        command: It waits at its start.
        log: File for strace's lines.
        watched: Trace calls that touch these paths only; none for all.
        fault: What happens to one of them.
    """
    options = ["-e", f"trace={','.join(CALLS)}"]
    options += [part for path in sorted(watched) for part in ("-P", path)]
    options += [] if fault is None else ["-e", fault.option]
    arguments = ["strace", "-f", "-y", "-s", "0", "-o", str(log), *options, "-p", str(command.pid)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        if "attached" not in said:
            said += strace.stderr.readline()
        assert "attached" in said, said
        finished = command.go().finished()
    return Traced(finished, log.read_text().splitlines())


def faults(counts: Counter[str], effects: Sequence[str]) -> list[Fault]:
    """Every effect on every call."""
    return [
        Fault(call, number, effect) for call in CALLS for number in range(1, counts[call] + 1) for effect in effects
    ]


def _parsed(line: str) -> tuple[str, list[str]]:
    """The call's name and the paths that it touches, by name or by descriptor."""
    found = _CALL.match(line)
    if found is None:
        return "", []
    name, rest = found.groups()
    paths = [quoted or held for quoted, held in _PATHS.findall(rest.rpartition(" = ")[0])]
    return name, paths[1:] if name == "openat" and "AT_FDCWD<" in rest else paths

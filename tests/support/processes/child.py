"""Runs code that may crash, hang or exhaust memory in a child process, and reports how it ended and at which input.

A child is forked from the process that has done the imports (see `commands`). It writes each input's name to a journal
before it tries it, so that a crash or a hang can be attributed.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from support.processes.commands import CONTEXT

HANG_SECONDS = 5.0
_STARTUP_SECONDS = 90.0  # imports and setup
_ADDRESS_SPACE_BYTES = 4 << 30  # an input that needs more counts as a crash


@dataclass(frozen=True)
class ChildExit:
    """How a child ended (`ok`, `hang`, `signal 11`, `exit 3`) and the last input that it began."""

    how: str
    last: str


class Journal:
    """The child's records, one JSON object per line, in a file that outlives it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def begin(self, what: str) -> None:
        """Record the input that comes next."""
        self._write({"trying": what})

    def record(self, **facts: Any) -> None:
        """Record an outcome."""
        self._write(facts)

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(f"{json.dumps(entry)}\n")
        self._file.flush()


def run_in_child(
    work: Callable[..., None], journal: Path, *arguments: Any, patience_seconds: float = HANG_SECONDS
) -> ChildExit:
    """Run `work(Journal, *arguments)` in a child and kill it when one input takes more than `patience_seconds`.

    Seconds are CPU time, as the machine may be busy. A child that sleeps is killed after ten times as long.
    """
    journal.touch()
    process = CONTEXT.Process(target=_child, args=(work, journal, arguments))
    process.start()
    assert process.pid is not None
    said, since, tries = journal.stat().st_size, _Clocks.of(process.pid), False
    while process.is_alive():
        process.join(0.2)
        now = _Clocks.of(process.pid)
        if journal.stat().st_size != said:
            said, since, tries = journal.stat().st_size, now, True
        elif now.since(since) > (patience_seconds if tries else _STARTUP_SECONDS):
            process.kill()
            process.join()
            return ChildExit("hang", _last_try(journal))
    code = process.exitcode or 0
    how = "ok" if code == 0 else f"signal {-code}" if code < 0 else f"exit {code}"
    return ChildExit(how, _last_try(journal))


@dataclass(frozen=True)
class _Clocks:
    """CPU time of a process and wall-clock time, in seconds."""

    computed: float
    wall: float

    @classmethod
    def of(cls, process: int) -> "_Clocks":
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            return cls(0.0, time.monotonic())
        return cls((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), time.monotonic())

    def since(self, before: "_Clocks") -> float:
        """CPU seconds, or a tenth of the wall-clock seconds where that is more."""
        return max(self.computed - before.computed, (self.wall - before.wall) / 10)


def journal_entries(journal: Path) -> Iterator[dict[str, Any]]:
    """The outcomes; the half-written line of a killed child is skipped."""
    for line in journal.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "trying" not in entry:
            yield entry


def _last_try(journal: Path) -> str:
    lines = [line for line in journal.read_text().splitlines() if line.startswith('{"trying"')]
    return str(json.loads(lines[-1])["trying"]) if lines else "nothing yet"


def _child(work: Callable[..., None], journal: Path, arguments: tuple[Any, ...]) -> None:
    said = journal.with_suffix(".stderr").open("a")
    sys.stdout = sys.stderr = said
    torch.set_num_threads(1)  # spinning threads are slow on a busy machine
    work(Journal(journal), *arguments)


def limit_memory() -> None:
    """Limit the address space of this process, so that a bomb ends the process and not the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _ADDRESS_SPACE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

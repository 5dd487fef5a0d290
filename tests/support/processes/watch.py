"""Work in child processes that may crash, hang or take all memory: what ended them, and over which input.

A child is forked from the process that has done the imports (see `commands`). Before each try it says what it tries, so
that a crash or a hang names its input, and the rest goes on in another child.
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
_STARTING_SECONDS = 90.0  # of a child: imports, and what is made once
_ADDRESS_SPACE_BYTES = 4 << 30  # more than this is no try that anybody should wait for


@dataclass(frozen=True)
class Ending:
    """How a child ended: `ok`, `hang`, `signal 11` or `exit 3`, and what it tried last."""

    how: str
    last: str


class Notes:
    """What a child says, as one JSON object a line, in a file that outlives it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def trying(self, what: str) -> None:
        """Say what comes next."""
        self._write({"trying": what})

    def found(self, **facts: Any) -> None:
        """Say what came of it."""
        self._write(facts)

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(f"{json.dumps(entry)}\n")
        self._file.flush()


def watched(work: Callable[..., None], notes: Path, *arguments: Any, patience_seconds: float = HANG_SECONDS) -> Ending:
    """Run `work(Notes, *arguments)` in a child; one that computes for `patience_seconds` over a try is killed.

    Seconds are those of the processor, as other work may keep it from a child; one that sleeps is killed later.
    """
    notes.touch()
    process = CONTEXT.Process(target=_child, args=(work, notes, arguments))
    process.start()
    assert process.pid is not None
    said, since, tries = notes.stat().st_size, _Clocks.of(process.pid), False
    while process.is_alive():
        process.join(0.2)
        now = _Clocks.of(process.pid)
        if notes.stat().st_size != said:
            said, since, tries = notes.stat().st_size, now, True
        elif now.since(since) > (patience_seconds if tries else _STARTING_SECONDS):
            process.kill()
            process.join()
            return Ending("hang", _last_try(notes))
    code = process.exitcode or 0
    how = "ok" if code == 0 else f"signal {-code}" if code < 0 else f"exit {code}"
    return Ending(how, _last_try(notes))


@dataclass(frozen=True)
class _Clocks:
    """What a process has computed, and what time it is, in seconds."""

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
        """Seconds computed; a tenth of those that have gone by, where that is more."""
        return max(self.computed - before.computed, (self.wall - before.wall) / 10)


def entries(notes: Path) -> Iterator[dict[str, Any]]:
    """What was found, without what was tried; half a line of a killed child is left out."""
    for line in notes.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "trying" not in entry:
            yield entry


def _last_try(notes: Path) -> str:
    lines = [line for line in notes.read_text().splitlines() if line.startswith('{"trying"')]
    return str(json.loads(lines[-1])["trying"]) if lines else "nothing yet"


def _child(work: Callable[..., None], notes: Path, arguments: tuple[Any, ...]) -> None:
    said = notes.with_suffix(".stderr").open("a")
    sys.stdout = sys.stderr = said
    torch.set_num_threads(1)  # two that spin for each other are many times slower where the machine is busy
    work(Notes(notes), *arguments)


def limit_memory() -> None:
    """Let this process have so much more address space than now, so that a bomb ends it and not the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _ADDRESS_SPACE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def memory_kb(name: str) -> int:
    """`VmRSS`, what this process holds now, or `VmHWM`, the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def forget_peak() -> None:
    """Let `VmHWM` begin again at what is held now."""
    Path("/proc/self/clear_refs").write_text("5")

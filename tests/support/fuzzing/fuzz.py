"""Fuzzing: parsers are fed mutated inputs in child processes, and what became of the inputs."""

import contextlib
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from lmtool.runtime import LmtoolError

from support.fuzzing.mutation import Lines, Mutator
from support.fuzzing.parsers import TARGETS, Target, same, texts
from support.processes.watch import HANG_SECONDS, Notes, entries, limit_memory, watched


def _planted(fault: Callable[[bytes], Any]) -> Target:
    """A parser with a fault behind a few bytes."""

    def work(run: Path, folder: Path, reached: Counter[str]) -> Callable[[bytes], Any]:
        def planted(data: bytes) -> None:
            if data[:1] != b"t":
                raise LmtoolError("no text")
            if b"NaN" in data:
                fault(data)

        return planted

    return Target(lambda run: texts(run)[:1], same, work)


def _run_for_ever(_: bytes) -> None:
    while True:
        pass


def _crash(_: bytes) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


PLANTED = {
    "an index without a check": _planted(lambda data: data[len(data)]),
    "a loop without an end": _planted(_run_for_ever),
    "a crash": _planted(_crash),
}
"""For the positive control."""


@dataclass(frozen=True)
class Fuzzed:
    """What became of a number of inputs.

    Attributes:
        tried: How many inputs were tried.
        refused: How many met an error of ours.
        lines: How many lines of code were reached.
        reached: How often the parser got as far as its target counts.
        untyped: Other errors, with the seed, the input and the traceback.
        ended: The crash or hang that ended it, with the seed and the input.
    """

    tried: int
    refused: int
    lines: int
    reached: dict[str, int]
    untyped: list[str]
    ended: list[str]


def fuzz(
    name: str, run: Path, folder: Path, count: int, seed: int, *, patience_seconds: float = HANG_SECONDS
) -> Fuzzed:
    """Feed `count` inputs to a child process, or fewer where it crashes or hangs."""
    folder.mkdir()
    notes, last, ended = folder / "notes.jsonl", folder / "input", []
    ending = watched(_fuzz, notes, name, run, folder, count, seed, patience_seconds=patience_seconds)
    if ending.how != "ok":
        shown = last.read_bytes()[:300] if last.exists() else notes.with_suffix(".stderr").read_text()
        ended.append(f"{name}, seed {seed}, {ending.how} after {ending.last}: {shown!r}")
    found = list(entries(notes))
    return Fuzzed(
        int(ending.last.partition(" ")[0]) if ending.last[:1].isdigit() else 0,
        sum(entry.get("refused", 0) for entry in found),
        max((entry.get("lines", 0) for entry in found), default=0),
        sum((Counter(entry.get("reached", {})) for entry in found), Counter()),
        [entry["untyped"] for entry in found if "untyped" in entry],
        ended,
    )


def _fuzz(notes: Notes, name: str, run: Path, folder: Path, count: int, seed: int) -> None:
    (folder / "work").mkdir()
    target, lines, reached = {**TARGETS, **PLANTED}[name], Lines(), Counter[str]()
    work = target.work(run, folder / "work", reached)
    for data in target.seeds(run):
        with contextlib.suppress(LmtoolError):  # any other error would be a fault of the harness
            lines.run(work, data)
    reached.clear()
    limit_memory()
    mutator, judge = Mutator(seed, target.seeds(run), target.mend), _Judge(notes, f"{name}, seed {seed}")
    with (folder / "input").open("wb", buffering=0) as last:
        for number in range(1, count + 1):
            data = mutator.next()
            _put(last, data)
            notes.trying(f"{number} inputs")
            judge.see(lambda data: lines.run(work, data), data)
            if lines.new:
                mutator.keep(data)
    notes.found(refused=judge.refused, lines=len(lines.seen), reached=reached)


def _put(file: FileIO, data: bytes) -> None:
    """Let the file hold this input, so that it is there after a crash."""
    file.seek(0)
    file.truncate()
    file.write(data)


class _Judge:
    """Counts the inputs that were refused, and notes every other error once for each line that raises it."""

    def __init__(self, notes: Notes, what: str) -> None:
        self.refused = 0
        self._notes, self._what = notes, what
        self._places: set[str] = set()

    def see(self, work: Callable[[bytes], Any], data: bytes) -> None:
        """Try an input."""
        try:
            work(data)
        except LmtoolError:
            self.refused += 1
        except Exception as error:
            where = f"{type(error).__name__} {traceback.extract_tb(error.__traceback__)[-1]}"
            if where not in self._places:
                self._places.add(where)
                text = f"{self._what}, input {data[:300]!r}: {traceback.format_exc()[-1500:]}"
                self._notes.found(untyped=text)

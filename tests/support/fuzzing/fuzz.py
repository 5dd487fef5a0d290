"""Fuzzing: runs parsers on mutated inputs in child processes and counts the outcomes."""

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
from support.processes.child import HANG_SECONDS, Journal, journal_entries, limit_memory, run_in_child


def _broken_parser(fault: Callable[[bytes], Any]) -> Target:
    """A parser with a fault that a few bytes trigger."""

    def work(run: Path, folder: Path, reached: Counter[str]) -> Callable[[bytes], Any]:
        def planted(data: bytes) -> None:
            if data[:1] != b"t":
                raise LmtoolError("no text")
            if b"NaN" in data:
                fault(data)

        return planted

    return Target(lambda run: texts(run)[:1], same, work)


def _loop_forever(_: bytes) -> None:
    while True:
        pass


def _crash(_: bytes) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


BROKEN_PARSERS = {
    "an index without a check": _broken_parser(lambda data: data[len(data)]),
    "a loop without an end": _broken_parser(_loop_forever),
    "a crash": _broken_parser(_crash),
}
"""Parsers for the positive control."""


@dataclass(frozen=True)
class FuzzResult:
    """Outcomes of the inputs.

    Attributes:
        tried: Number of inputs.
        refused: Number of inputs that raised an `LmtoolError`.
        lines: Number of lines of code that were reached.
        reached: Counts of the target's stages.
        untyped: Other errors, with the seed, the input and the traceback.
        ended: The crash or hang that ended the run, with the seed and the input.
    """

    tried: int
    refused: int
    lines: int
    reached: dict[str, int]
    untyped: list[str]
    ended: list[str]


def fuzz(
    name: str, run: Path, folder: Path, count: int, seed: int, *, patience_seconds: float = HANG_SECONDS
) -> FuzzResult:
    """Run `count` inputs in a child process, or fewer if it crashes or hangs."""
    folder.mkdir()
    journal, last, ended = folder / "journal.jsonl", folder / "input", []
    ending = run_in_child(_fuzz, journal, name, run, folder, count, seed, patience_seconds=patience_seconds)
    if ending.how != "ok":
        shown = last.read_bytes()[:300] if last.exists() else journal.with_suffix(".stderr").read_text()
        ended.append(f"{name}, seed {seed}, {ending.how} after {ending.last}: {shown!r}")
    entries = list(journal_entries(journal))
    return FuzzResult(
        int(ending.last.partition(" ")[0]) if ending.last[:1].isdigit() else 0,
        sum(entry.get("refused", 0) for entry in entries),
        max((entry.get("lines", 0) for entry in entries), default=0),
        sum((Counter(entry.get("reached", {})) for entry in entries), Counter()),
        [entry["untyped"] for entry in entries if "untyped" in entry],
        ended,
    )


def _fuzz(journal: Journal, name: str, run: Path, folder: Path, count: int, seed: int) -> None:
    (folder / "work").mkdir()
    target, lines, reached = {**TARGETS, **BROKEN_PARSERS}[name], Lines(), Counter[str]()
    work = target.work(run, folder / "work", reached)
    for data in target.seeds(run):
        with contextlib.suppress(LmtoolError):  # another error is a fault of the harness
            lines.run(work, data)
    reached.clear()
    limit_memory()
    mutator, outcomes = Mutator(seed, target.seeds(run), target.mend), _OutcomeCounter(journal, f"{name}, seed {seed}")
    with (folder / "input").open("wb", buffering=0) as last:
        for number in range(1, count + 1):
            data = mutator.next()
            _put(last, data)
            journal.begin(f"{number} inputs")
            outcomes.check(lambda data: lines.run(work, data), data)
            if lines.new:
                mutator.keep(data)
    journal.record(refused=outcomes.refused, lines=len(lines.seen), reached=reached)


def _put(file: FileIO, data: bytes) -> None:
    """Save the input, so that it is known after a crash."""
    file.seek(0)
    file.truncate()
    file.write(data)


class _OutcomeCounter:
    """Counts refused inputs, and records every other error once per line that raises it."""

    def __init__(self, journal: Journal, what: str) -> None:
        self.refused = 0
        self._journal, self._what = journal, what
        self._places: set[str] = set()

    def check(self, work: Callable[[bytes], Any], data: bytes) -> None:
        """Run one input."""
        try:
            work(data)
        except LmtoolError:
            self.refused += 1
        except Exception as error:
            where = f"{type(error).__name__} {traceback.extract_tb(error.__traceback__)[-1]}"
            if where not in self._places:
                self._places.add(where)
                text = f"{self._what}, input {data[:300]!r}: {traceback.format_exc()[-1500:]}"
                self._journal.record(untyped=text)

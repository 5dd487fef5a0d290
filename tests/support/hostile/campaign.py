"""Runs numbered hostile files through the entry points, in child processes."""

import functools
import hashlib
import itertools
import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.hostile.access_monitor import AuditMonitor, Honeypot
from support.hostile.artifacts import ARTIFACTS
from support.hostile.bombs import BOMBS
from support.hostile.entry_points import Sandbox, call, new_sandbox
from support.hostile.files import HostileFile, Source
from support.hostile.runs import RUNS
from support.hostile.unprotected_loaders import UNPROTECTED_LOADERS
from support.processes.child import Journal, journal_entries, limit_memory, run_in_child

RECIPES = (*ARTIFACTS, *BOMBS, *RUNS)


@dataclass(frozen=True)
class Campaign:
    """A good run, its corpus, and a working folder."""

    run: Path
    corpus: Path
    folder: Path


def hostile_file(source: Source, number: int) -> HostileFile:
    """The hostile file with this number, always the same."""
    return RECIPES[number % len(RECIPES)](source, random.Random(number))


def distinct_numbers(run: Path) -> Iterator[int]:
    """The numbers of files whose content differs from that of all lower numbers.

    Some files hold the path of the honeypot. Here that path is always the same, as its text makes no difference.
    """
    source, known = Source(run, Path("/honeypot/secret"), Path("/honeypot/canary")), set[str]()
    for number in itertools.count():
        content = hashlib.sha256()
        for name, data in sorted(hostile_file(source, number).files.items()):
            content.update(f"{name}, {len(data)} bytes: ".encode() + data)
        if content.hexdigest() not in known:
            known.add(content.hexdigest())
            yield number


def run_campaign(where: Campaign, numbers: list[int], name: str) -> list[dict[str, Any]]:
    """Call the entry points with these files: one record for each call, and one for each crash or hang."""
    (where.folder / name).mkdir(exist_ok=True)
    journal, left, crashes = where.folder / name / "journal.jsonl", list(numbers), []
    while left:
        ending = run_in_child(_run_child, journal, where, left, name)
        if ending.how == "ok":
            break
        number = int(ending.last.partition(" ")[0])
        assert number in left, (
            f"a child ended with {ending.how} before its first file: {journal.with_suffix('.stderr').read_text()}"
        )
        crashes.append(
            {"number": number, "name": ending.last, "outcome": ending.how, "entry_point": "?", "message": ""}
        )
        left = left[left.index(number) + 1 :]
    return [*journal_entries(journal), *crashes]


def _run_child(journal: Journal, where: Campaign, numbers: list[int], name: str) -> None:
    honeypot = Honeypot(where.folder / name)
    tempfile.tempdir = str(where.folder / name)
    sandbox = new_sandbox(honeypot.inside, where.run, where.corpus)
    source, monitor = Source(where.run, honeypot.secret, honeypot.canary), AuditMonitor(where.folder, where.corpus)
    limit_memory()
    for number in numbers:
        case = hostile_file(source, number)
        size_bytes = sum(map(len, case.files.values()))
        for entry_point in (*case.must_refuse, *case.may_refuse):
            journal.begin(f"{number} {case.name}, {entry_point}")
            sandbox.replace(case.files)
            record = call(entry_point, sandbox, monitor)
            sandbox.restore(case.files, entry_point)
            record |= {
                "number": number,
                "name": case.name,
                "bytes": size_bytes,
                "must_refuse": entry_point in case.must_refuse,
            }
            journal.record(**record, accessed=honeypot.was_accessed(), canary=honeypot.canary.exists())


def run_unprotected_loaders(where: Campaign) -> dict[str, dict[str, Any]]:
    """Run loaders without the protections under the same monitors: name -> record."""
    (where.folder / "unprotected").mkdir()
    journal = where.folder / "unprotected" / "journal.jsonl"
    ending = run_in_child(_call_unprotected, journal, where)
    assert ending.how == "ok", (ending, journal.with_suffix(".stderr").read_text())
    return {entry["entry_point"]: entry for entry in journal_entries(journal)}


def _call_unprotected(journal: Journal, where: Campaign) -> None:
    honeypot = Honeypot(where.folder / "unprotected")
    tempfile.tempdir = str(where.folder / "unprotected")
    sandbox = Sandbox(honeypot.inside, where.run, where.corpus)
    sandbox.reset()
    os.chdir(honeypot.inside)
    source, monitor = Source(where.run, honeypot.secret, honeypot.canary), AuditMonitor(where.folder, where.corpus)
    for name, entry_point in UNPROTECTED_LOADERS.items():
        journal.begin(name)
        record = call(name, sandbox, monitor, functools.partial(entry_point, source))
        journal.record(**record, accessed=honeypot.was_accessed(), canary=honeypot.canary.exists())

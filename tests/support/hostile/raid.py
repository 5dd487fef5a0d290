"""Hostile files by their numbers, tried at every door in child processes."""

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

from support.hostile.artifacts import ARTIFACTS
from support.hostile.bait import Bait, Guard
from support.hostile.bombs import BOMBS
from support.hostile.careless import CARELESS
from support.hostile.doors import Place, attempt, new_place
from support.hostile.files import Hostile, Source
from support.hostile.runs import RUNS
from support.processes.watch import Notes, entries, limit_memory, watched

RECIPES = (*ARTIFACTS, *BOMBS, *RUNS)


@dataclass(frozen=True)
class Raid:
    """Where everything lies: a good run, its corpus, and a folder to work in."""

    run: Path
    corpus: Path
    folder: Path


def hostile(source: Source, number: int) -> Hostile:
    """The file with this number; the same one each time."""
    return RECIPES[number % len(RECIPES)](source, random.Random(number))


def distinct(run: Path) -> Iterator[int]:
    """The numbers of files that are like none of a lower number.

    Where the bait lies is in some of them and makes no difference: here it is at the same place for all.
    """
    source, known = Source(run, Path("/bait/secret"), Path("/bait/canary")), set[str]()
    for number in itertools.count():
        content = hashlib.sha256()
        for name, data in sorted(hostile(source, number).files.items()):
            content.update(f"{name}, {len(data)} bytes: ".encode() + data)
        if content.hexdigest() not in known:
            known.add(content.hexdigest())
            yield number


def raid(where: Raid, numbers: list[int], name: str) -> list[dict[str, Any]]:
    """Try the files with these numbers; what each door made of them, with crashes and hangs among it."""
    (where.folder / name).mkdir(exist_ok=True)
    notes, left, crashes = where.folder / name / "notes.jsonl", list(numbers), []
    while left:
        ending = watched(_raid, notes, where, left, name)
        if ending.how == "ok":
            break
        number = int(ending.last.partition(" ")[0])
        assert number in left, f"a child {ending.how} before its first try: {notes.with_suffix('.stderr').read_text()}"
        crashes.append({"number": number, "name": ending.last, "how": ending.how, "door": "?", "message": ""})
        left = left[left.index(number) + 1 :]
    return [*entries(notes), *crashes]


def _raid(notes: Notes, where: Raid, numbers: list[int], name: str) -> None:
    bait = Bait(where.folder / name)
    tempfile.tempdir = str(where.folder / name)
    place = new_place(bait.inside, where.run, where.corpus)
    source, guard = Source(where.run, bait.secret, bait.canary), Guard(where.folder, where.corpus)
    limit_memory()
    for number in numbers:
        case = hostile(source, number)
        bytes_of_it = sum(map(len, case.files.values()))
        for door in (*case.refusing, *case.others):
            notes.trying(f"{number} {case.name}, {door}")
            place.replace(case.files)
            found = attempt(door, place, guard)
            place.put_back(case.files, door)
            found |= {"number": number, "name": case.name, "bytes": bytes_of_it, "must": door in case.refusing}
            notes.found(**found, taken=bait.was_taken(), canary=bait.canary.exists())


def careless(where: Raid) -> dict[str, dict[str, Any]]:
    """What the same watch says of loaders without the protections: name -> what `attempt` found."""
    (where.folder / "careless").mkdir()
    notes = where.folder / "careless" / "notes.jsonl"
    ending = watched(_careless, notes, where)
    assert ending.how == "ok", (ending, notes.with_suffix(".stderr").read_text())
    return {entry["door"]: entry for entry in entries(notes)}


def _careless(notes: Notes, where: Raid) -> None:
    bait = Bait(where.folder / "careless")
    tempfile.tempdir = str(where.folder / "careless")
    place = Place(bait.inside, where.run, where.corpus)
    place.renew()
    os.chdir(bait.inside)
    source, guard = Source(where.run, bait.secret, bait.canary), Guard(where.folder, where.corpus)
    for name, door in CARELESS.items():
        notes.trying(name)
        found = attempt(name, place, guard, functools.partial(door, source))
        notes.found(**found, taken=bait.was_taken(), canary=bait.canary.exists())

"""Loading runs no code and reads nothing else: hostile files at every door that reads them.

The files and the doors are in tests/support: `hostile*.py` and `doors.py`.
"""

import itertools
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lmtool.model import Run
from support.hostile.files import Source
from support.hostile.raid import RECIPES, Raid, careless, distinct, hostile, raid
from support.runs.finished_run import write_finished_run
from support.scale import Many, Tally

PROMISE = "Loading runs no code and reads nothing else"
MOST_EXTRA_KB = 200 * 1024


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory, run: Run, corpus_folder: Path) -> Raid:
    """A good run with its artifact, a few test vectors and a stream's state."""
    folder = tmp_path_factory.mktemp("raid")
    return Raid(write_finished_run(folder / "good", run), corpus_folder, folder)


def shared_out(where: Raid, numbers: list[int], children: int) -> list[dict[str, Any]]:
    """What became of the files with these numbers, which so many children try."""
    shares = [share for at in range(children) if (share := numbers[at::children])]
    with ThreadPoolExecutor(children) as pool:
        tries = [pool.submit(raid, where, share, f"child-from-{share[0]}") for share in shares]
        return [entry for found in tries for entry in found.result()]


def numbers_of(entries: Iterable[dict[str, Any]]) -> set[int]:
    return {entry["number"] for entry in entries}


def refused(entries: Iterable[dict[str, Any]]) -> set[int]:
    """The files that at least one door refused."""
    return numbers_of(entry for entry in entries if entry["how"] == "refused")


def until_refused(where: Raid, count: int, children: int) -> tuple[list[dict[str, Any]], set[int]]:
    """Try distinct files until so many of them have each been refused; what became of them, and which were tried."""
    fresh, tried, found = distinct(where.run), set[int](), list[dict[str, Any]]()
    while (missing := count - len(refused(found))) > 0:
        numbers = list(itertools.islice(fresh, missing + missing // 4))  # some are no harm, and every door takes them
        tried |= set(numbers)
        found += shared_out(where, numbers, children)
    return found, tried


def test_hostile_files_are_refused_at_every_door(where: Raid, many: Many, tally: Tally) -> None:
    found, tried = until_refused(where, many(len(RECIPES), 1000), children=many(1, 2))
    wrong = [entry for entry in found if entry["how"] not in ("refused", "accepted")]
    assert not wrong, _shown(wrong)
    let_in = [entry for entry in found if entry["must"] and entry["how"] != "refused"]
    assert not let_in, _shown(let_in)
    ran = [entry for entry in found if entry["noticed"] or entry["taken"] or entry["canary"]]
    assert not ran, _shown(ran)
    large = [entry for entry in found if entry["extra_kb"] > MOST_EXTRA_KB + entry["bytes"] / 1024]
    assert not large, _shown(large)
    assert numbers_of(found) == tried
    tally(
        PROMISE,
        tried=len(refused(found)),
        what="distinct files, each refused by at least one door",
        kinds=len({entry["name"] for entry in found}),
        refusals=sum(entry["how"] == "refused" for entry in found),
        tries_at_doors=len(found),
        harmless_and_taken_by_every_door=len(tried - refused(found)),
        executions=len(ran),
        crashes=len(wrong),
        let_in=len(let_in),
        most_extra_mb=max(entry["extra_kb"] for entry in found) // 1024,
        slowest_seconds=round(max(entry["seconds"] for entry in found), 2),
    )


def test_a_file_counts_once(where: Raid) -> None:
    """Control: of those that differ in where the bait lies only, or in nothing, there is one."""
    numbers = list(itertools.islice(distinct(where.run), 200))
    assert len(numbers) == len(set(numbers)) == 200
    assert numbers[-1] > 200
    source = Source(where.run, where.folder / "secret", where.folder / "canary")
    files = [hostile(source, number).files for number in numbers]
    assert all(one != other for one, other in itertools.combinations(files, 2))


def test_the_watch_sees_what_careless_loaders_do(where: Raid, tally: Tally) -> None:
    """The positive control: pickle runs code, plain onnxruntime reads beside the file, and takes memory and time."""
    found = careless(where)
    assert found["unpickling"]["canary"]
    assert any("pickle.find_class" in notice for notice in found["unpickling"]["noticed"])
    assert found["external data"]["taken"]
    for name in ("a sparse weight", "folding"):
        assert found[name]["extra_kb"] > MOST_EXTRA_KB, found[name]
    assert found["inlining"]["seconds"] > 10 * min(entry["seconds"] for entry in found.values())
    for name in ("another file", "a process", "code"):
        assert found[name]["noticed"], found[name]
    memory = max(found[name]["extra_kb"] for name in ("a sparse weight", "folding")) // 1024
    control = f"pickle runs code; plain onnxruntime reads the file beside and takes {memory} MB for 7 kB"
    tally(PROMISE, tried=len(found), control=control)


def _shown(entries: list[dict[str, Any]]) -> str:
    kinds = Counter((entry["name"], entry["door"]) for entry in entries)
    first = "\n\n".join(str(entry) for entry in entries[:5])
    return f"{len(entries)} of them, by `hostile(source, number)`: {kinds.most_common(40)}\n{first}"

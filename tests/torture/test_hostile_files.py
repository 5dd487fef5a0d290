"""Loading runs no code and reads nothing else: hostile files at every entry point that reads them.

The files and the entry points are in tests/support/hostile.
"""

import itertools
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lmtool.model import Run
from support.hostile.campaign import (
    RECIPES,
    Campaign,
    distinct_numbers,
    hostile_file,
    run_campaign,
    run_unprotected_loaders,
)
from support.hostile.files import Source
from support.runs.finished_run import write_finished_run
from support.scale import Many, Tally

PROMISE = "Loading runs no code and reads nothing else"
MOST_EXTRA_KB = 200 * 1024


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory, run: Run, corpus_folder: Path) -> Campaign:
    """A good run with its artifact, a few test vectors and a stream's state."""
    folder = tmp_path_factory.mktemp("campaign")
    return Campaign(write_finished_run(folder / "good", run), corpus_folder, folder)


def run_in_parallel(where: Campaign, numbers: list[int], children: int) -> list[dict[str, Any]]:
    """The records of the files with these numbers, run by several children at a time."""
    shares = [share for at in range(children) if (share := numbers[at::children])]
    with ThreadPoolExecutor(children) as pool:
        tries = [pool.submit(run_campaign, where, share, f"child-from-{share[0]}") for share in shares]
        return [entry for future in tries for entry in future.result()]


def numbers_of(entries: Iterable[dict[str, Any]]) -> set[int]:
    return {entry["number"] for entry in entries}


def refused(entries: Iterable[dict[str, Any]]) -> set[int]:
    """The files that at least one entry point refused."""
    return numbers_of(entry for entry in entries if entry["outcome"] == "refused")


def until_refused(where: Campaign, count: int, children: int) -> tuple[list[dict[str, Any]], set[int]]:
    """Run distinct files until `count` of them were refused; the records, and the numbers that were tried."""
    fresh, tried, records = distinct_numbers(where.run), set[int](), list[dict[str, Any]]()
    while (missing := count - len(refused(records))) > 0:
        numbers = list(itertools.islice(fresh, missing + missing // 4))  # some do no harm and are accepted everywhere
        tried |= set(numbers)
        records += run_in_parallel(where, numbers, children)
    return records, tried


def test_hostile_files_are_refused_at_every_entry_point(where: Campaign, many: Many, tally: Tally) -> None:
    records, tried = until_refused(where, many(len(RECIPES), 1000), children=many(1, 2))
    unexpected = [entry for entry in records if entry["outcome"] not in ("refused", "accepted")]
    assert not unexpected, _shown(unexpected)
    let_in = [entry for entry in records if entry["must_refuse"] and entry["outcome"] != "refused"]
    assert not let_in, _shown(let_in)
    ran = [entry for entry in records if entry["events"] or entry["accessed"] or entry["canary"]]
    assert not ran, _shown(ran)
    large = [entry for entry in records if entry["extra_kb"] > MOST_EXTRA_KB + entry["bytes"] / 1024]
    assert not large, _shown(large)
    assert numbers_of(records) == tried
    tally(
        PROMISE,
        tried=len(refused(records)),
        what="distinct files, each refused by at least one entry point",
        kinds=len({entry["name"] for entry in records}),
        refusals=sum(entry["outcome"] == "refused" for entry in records),
        calls_of_entry_points=len(records),
        harmless_and_accepted_everywhere=len(tried - refused(records)),
        executions=len(ran),
        crashes=len(unexpected),
        let_in=len(let_in),
        most_extra_mb=max(entry["extra_kb"] for entry in records) // 1024,
        slowest_seconds=round(max(entry["seconds"] for entry in records), 2),
    )


def test_equal_files_count_once(where: Campaign) -> None:
    """Control: files that differ only in the path of the honeypot count once."""
    numbers = list(itertools.islice(distinct_numbers(where.run), 200))
    assert len(numbers) == len(set(numbers)) == 200
    assert numbers[-1] > 200
    source = Source(where.run, where.folder / "secret", where.folder / "canary")
    files = [hostile_file(source, number).files for number in numbers]
    assert all(one != other for one, other in itertools.combinations(files, 2))


def test_the_monitors_detect_unprotected_loaders(where: Campaign, tally: Tally) -> None:
    """Positive control: pickle runs code; plain onnxruntime reads other files and takes memory and time."""
    records = run_unprotected_loaders(where)
    assert records["unpickling"]["canary"]
    assert any("pickle.find_class" in notice for notice in records["unpickling"]["events"])
    assert records["external data"]["accessed"]
    for name in ("a sparse weight", "folding"):
        assert records[name]["extra_kb"] > MOST_EXTRA_KB, records[name]
    assert records["inlining"]["seconds"] > 10 * min(entry["seconds"] for entry in records.values())
    for name in ("another file", "a process", "code"):
        assert records[name]["events"], records[name]
    memory = max(records[name]["extra_kb"] for name in ("a sparse weight", "folding")) // 1024
    control = f"pickle runs code; plain onnxruntime reads the file beside and takes {memory} MB for 7 kB"
    tally(PROMISE, tried=len(records), control=control)


def _shown(entries: list[dict[str, Any]]) -> str:
    kinds = Counter((entry["name"], entry["entry_point"]) for entry in entries)
    first = "\n\n".join(str(entry) for entry in entries[:5])
    return f"{len(entries)} of them, by `hostile_file(source, number)`: {kinds.most_common(40)}\n{first}"

"""Loading runs no code and reads nothing else: hostile files at every door that reads them.

The files and the doors are in tests/support: `hostile*.py` and `doors.py`.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from good_run import write_good_run
from lmtool.model import Run
from raiding import RECIPES, Raid, careless, raid

Many = Callable[[int, int], int]
Tally = Callable[..., None]

MOST_EXTRA_KB = 200 * 1024


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory, run: Run, corpus_folder: Path) -> Raid:
    """A good run with its artifact, a few test vectors and a stream's state."""
    folder = tmp_path_factory.mktemp("raid")
    return Raid(write_good_run(folder / "good", run), corpus_folder, folder)


def tried(where: Raid, count: int, children: int) -> list[dict[str, Any]]:
    """What became of the files below `count`, shared out among so many children."""
    with ThreadPoolExecutor(children) as pool:
        shares = [pool.submit(raid, where, list(range(at, count, children)), f"child{at}") for at in range(children)]
        return [found for share in shares for found in share.result()]


def test_hostile_files_are_refused_at_every_door(where: Raid, many: Many, tally: Tally) -> None:
    count = many(len(RECIPES), 1000)
    found = tried(where, count, children=many(1, 2))
    wrong = [entry for entry in found if entry["how"] not in ("refused", "accepted")]
    assert not wrong, _shown(wrong)
    let_in = [entry for entry in found if entry["must"] and entry["how"] != "refused"]
    assert not let_in, _shown(let_in)
    ran = [entry for entry in found if entry["noticed"] or entry["taken"] or entry["canary"]]
    assert not ran, _shown(ran)
    large = [entry for entry in found if entry["extra_kb"] > MOST_EXTRA_KB + entry["bytes"] / 1024]
    assert not large, _shown(large)
    assert {entry["number"] for entry in found} == set(range(count))
    tally(
        "Loading runs no code and reads nothing else",
        tried=count,
        what="files, each at every door that takes its kind",
        doors=len(found),
        executions=len(ran),
        crashes=len(wrong),
        let_in=len(let_in),
        most_extra_mb=max(entry["extra_kb"] for entry in found) // 1024,
        slowest_seconds=round(max(entry["seconds"] for entry in found), 2),
    )


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
    tally("Loading runs no code and reads nothing else", tried=len(found), control=control)


def _shown(entries: list[dict[str, Any]]) -> str:
    kinds = Counter((entry["name"], entry["door"]) for entry in entries)
    first = "\n\n".join(str(entry) for entry in entries[:5])
    return f"{len(entries)} of them, by `hostile(source, number)`: {kinds.most_common(40)}\n{first}"

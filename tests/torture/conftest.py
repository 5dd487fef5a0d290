"""Promises of reliability and security, each proven with figures.

A few tries of each run with the other tests; `make torture` sets LMTOOL_TORTURE=1 for all of them, and
LMTOOL_TORTURE_OUT to the file that their figures go to, one JSON object a line.
"""

import json
import os
import time
from pathlib import Path

import pytest
from lmtool.export import export_run
from lmtool.model import Run
from thoroughness import FULL, Many, Tally
from unstopped import Unstopped


@pytest.fixture(scope="session")
def many() -> Many:
    """`many(few, all)`: how often a test tries; the second number under `make torture`."""
    return lambda few, all_of_them: all_of_them if FULL else few


@pytest.fixture(scope="session")
def unstopped(tmp_path_factory: pytest.TempPathFactory) -> Unstopped:
    """A training that nothing stopped, with an artifact beside it."""
    found = Unstopped.make(tmp_path_factory.mktemp("unstopped"))
    export_run(Run(found.path))
    return found


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """`tally(promise, tried=200, what="kills", unusable=0)`: what a test found, for the table.

    `promise` is the row, `tried` how often it was tried, `what` was; every other word and its value is a figure.
    `control="..."` is what a positive control found, which shows that the test can fail. Several tests add to one
    promise. Called once at the end of a test, after its assertions.
    """
    started = time.monotonic()
    out = os.environ.get("LMTOOL_TORTURE_OUT")

    def write(promise: str, *, tried: int, **figures: float | str) -> None:
        entry = {"promise": promise, "test": request.node.name, "tried": tried, "figures": figures}
        entry["seconds"] = round(time.monotonic() - started, 1)
        if out is not None:
            with Path(out).open("a") as file:
                file.write(f"{json.dumps(entry)}\n")

    return write

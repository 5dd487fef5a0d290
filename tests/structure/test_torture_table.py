"""The table of the torture tests has every test: its figures, the reason why it was skipped, or its failure."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS_FOLDER = Path(__file__).parents[1]
TORTURE = TESTS_FOLDER / "torture"

TESTS = """
import pytest

PROMISE = "It holds"


def test_found(tally):
    tally(PROMISE, tried=1200, what="tries", lost=0)
    tally(PROMISE, tried=1, control="without it: 1 of 1 lost")


@pytest.mark.skipif(True, reason="there is no such disk")
def test_skipped():
    pass


def test_skips_itself():
    pytest.skip("no strace")


def test_failed(tally):
    assert False


@pytest.fixture
def broken():
    raise OSError("no room")


def test_not_begun(broken):
    pass
"""


def test_every_test_is_in_the_table(tmp_path: Path) -> None:
    shutil.copy(TORTURE / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    figures = tmp_path / "figures.jsonl"
    environment = {**os.environ, "LMTOOL_TORTURE_OUT": str(figures), "PYTHONPATH": str(TESTS_FOLDER)}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take a second
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    tests = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert tests.returncode == 1, tests.stdout
    table = subprocess.run([sys.executable, TORTURE / "table.py", figures], capture_output=True, text=True, check=True)
    head, _, row = table.stdout.splitlines()
    assert head.startswith("| promise |")
    promise, found, _, controls = (cell.strip() for cell in row.strip("|").split("|"))
    assert promise == "It holds"
    assert sorted(found.split("<br>")) == [
        "1,200 tries: lost 0",
        "test_failed failed",
        "test_not_begun failed",
        "test_skipped skipped: there is no such disk",
        "test_skips_itself skipped: no strace",
    ]
    assert controls == "without it: 1 of 1 lost"

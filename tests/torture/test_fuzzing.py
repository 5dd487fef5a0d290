"""The parsers survive: mutated inputs, guided by the lines they reach, in child processes.

The parsers are in tests/support/fuzzing/parsers.py, the fuzzer in mutation.py and fuzz.py.
"""

from pathlib import Path

import pytest
from lmtool.model import Run
from support.fuzzing.fuzz import TARGETS, fuzz
from support.runs.finished_run import write_finished_run
from support.scale import FULL, Many, Tally

PROMISE = "The parser survives"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    return write_finished_run(tmp_path_factory.mktemp("fuzzing") / "good", run)


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_inputs_raise_our_errors_only(good: Path, tmp_path: Path, name: str, many: Many, tally: Tally) -> None:
    count = many(60, 10_000)
    result = fuzz(name, good, tmp_path / "fuzz", count, seed=len(name))
    assert not result.ended, "\n".join(result.ended)
    assert not result.untyped, "\n\n".join(result.untyped)
    assert result.tried == count
    assert result.refused > 0
    assert result.reached or not FULL  # a few inputs may all be refused
    figures = {"refused": result.refused, **result.reached, "lines_reached": result.lines}
    tally(PROMISE, tried=count, what=f"inputs, {name}", signals=0, hangs=0, other_errors=0, **figures)


@pytest.mark.parametrize(
    ("name", "signs"),
    [("an index without a check", "IndexError"), ("a loop without an end", "hang"), ("a crash", "signal 11")],
)
def test_the_harness_finds_injected_faults(good: Path, tmp_path: Path, name: str, signs: str, tally: Tally) -> None:
    """Positive control: three bytes trigger a fault."""
    result = fuzz(name, good, tmp_path / "fuzz", 2000, seed=1, patience_seconds=1)
    assert any(signs in text for text in (*result.ended, *result.untyped)), result
    tally(PROMISE, tried=result.tried, control=f"planted: {name}: found")

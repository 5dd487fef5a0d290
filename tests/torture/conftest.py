"""Promises of reliability and security, each tested with figures.

The other tests run a few tries of each; `make torture` sets LMTOOL_TORTURE=1 to run all of them, and
LMTOOL_TORTURE_OUT to the file for their figures, one JSON object per line. Skipped and failed tests are recorded too.
"""

import json
import os
import random
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from lmtool.export import export_run
from lmtool.model import Run
from support.corpora import write_corpus
from support.faults.non_finite import artifact_with, float_weights
from support.runs.uninterrupted import UninterruptedRun
from support.scale import FULL, Many, Tally


@pytest.fixture(scope="session")
def many() -> Many:
    """`many(few, all)`: number of tries of a test; the second number under `make torture`."""
    return lambda few, all_of_them: all_of_them if FULL else few


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> UninterruptedRun:
    """An uninterrupted training, with an artifact."""
    finished = UninterruptedRun.make(tmp_path_factory.mktemp("uninterrupted"))
    export_run(Run(finished.path))
    return finished


@pytest.fixture(scope="session")
def few_sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("numbers"), (35, 10, 10))


@pytest.fixture(scope="session")
def artifacts(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Precision -> artifact."""
    half = export_run(run, "fp16", tmp_path_factory.mktemp("artifacts") / "fp16.onnx").path
    return {"fp32": run.artifact("fp32"), "int8": run.artifact("int8"), "fp16": half}


@pytest.fixture(scope="session")
def overflowing(artifacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with finite weights and infinite logits: both terms of their sums are near the largest float."""
    path, source = tmp_path_factory.mktemp("overflowing") / "model.onnx", artifacts["fp32"]
    for name in (name for name in float_weights(source) if name.startswith("projection")):
        path.write_bytes(artifact_with(source, name, 3e38, random.Random(1), 20))
        source = path
    return path


@pytest.fixture
def draw() -> random.Random:
    """A generator with a new seed each time."""
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")  # shown if the test fails
    return random.Random(seed)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """`tally(promise, tried=200, what="kills", unusable=0)` records the figures of a test for the table.

    `promise` is the row, to which several tests may add; `tried` is the number of tries, `what` describes them. Every
    other keyword is a figure; figures of 0 are asserted. `control="..."` describes the result of a positive control,
    which shows that the test can fail. Call it once at the end of a test, after its assertions. Tests that draw from
    `range(count)` use these numbers as seeds, so that each run tries the same.
    """
    started = time.monotonic()

    def write(promise: str, *, tried: int, **figures: float | str) -> None:
        _write(promise, request.node.name, tried, figures, time.monotonic() - started)

    return write


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest tests first."""
    items.sort(key=lambda item: item.path.name != "test_long_life.py")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record skipped and failed tests in the table."""
    report = yield
    if report.skipped or report.failed:
        reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
        outcome = f"skipped: {reason}" if report.skipped else "failed"
        promise = getattr(item.getparent(pytest.Module).obj, "PROMISE", item.location[0])
        _write(promise, item.name, 0, {"outcome": outcome}, report.duration)
    return report


def _write(promise: str, test: str, tried: int, figures: dict[str, Any], seconds: float) -> None:
    """Append a line to the file of figures in one write, because several processes append to it."""
    if (out := os.environ.get("LMTOOL_TORTURE_OUT")) is None:
        return
    entry = {"promise": promise, "test": test, "tried": tried, "figures": figures, "seconds": round(seconds, 1)}
    with Path(out).open("ab", buffering=0) as file:
        file.write(f"{json.dumps(entry)}\n".encode())

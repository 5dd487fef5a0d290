"""The study of a GPU: each part is kept whatever becomes of the others, and the parts run without a GPU."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from gpu import checks, figures
from gpu.evidence import Evidence
from gpu.gathering import PARTS, Part, _process, gather
from gpu.part import FAILED, Facts, Findings, Setup
from lmtool.bench import describe_environment
from lmtool.model import Run
from lmtool.runtime import available_providers
from support.processes.proc import alive
from support.scale import torture_only

TESTS = Path(__file__).parents[1]
STUDY = TESTS.parent / "bench" / "studies" / "gpu"


@pytest.fixture
def setup(run: Run, corpus_folder: Path, tmp_path: Path) -> Setup:
    """A rehearsal whose training is done."""
    setup = Setup("cpu", str(corpus_folder), tmp_path / "out", tmp_path / "work", small=True)
    for folder in (setup.out, setup.run, setup.half):
        folder.mkdir(parents=True)
    shutil.copy(run.artifact("fp32"), setup.run)
    return setup


def test_each_part_is_kept_whatever_becomes_of_the_others(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    evidence = Evidence("cpu", "abc", describe_environment())
    parts = [
        Part("support.gpu_parts.crashing", "a crash", 60),
        Part("support.gpu_parts.later", "later", 60, needs=["fp16"]),
        Part("support.gpu_parts.hanging", "a part without end", 1),
        Part("support.gpu_parts.faulty", "differences", 60),
    ]
    gather(parts, setup, evidence, 100)
    found = json.loads((setup.out / "gpu.json").read_text())
    assert found["commit"] == "abc"
    troubles = {name: part["trouble"] for name, part in found["parts"].items()}
    assert troubles["faulty"] == "too large"
    assert troubles["crashing"].startswith("its process ended with 1\n")
    assert troubles["crashing"].endswith("ValueError: no kernel image")
    assert troubles["hanging"].startswith("stopped after 1 s")
    assert troubles["later"] == "not run: exports wrote no artifact in fp16"
    assert found["parts"]["crashing"]["facts"] == {"found": "before"}
    assert found["parts"]["faulty"]["facts"] == {"differences": {"one|two": 0.5}, "table": "first\nsecond"}
    assert not evidence.is_whole
    page = (setup.out / "gpu.md").read_text()
    assert "| differences | one\\|two 0.5 |" in page
    assert "table:\n\n    first\n    second\n" in page


def test_a_part_that_is_stopped_leaves_no_process(tmp_path: Path) -> None:
    sleep = "import time; time.sleep(3600)"
    child = f"subprocess.Popen([sys.executable, '-c', {sleep!r}])"
    start = f"import subprocess, sys; print({child}.pid, flush=True); {sleep}"
    with (tmp_path / "log").open("w") as log, _process([sys.executable, "-c", start], log) as process:
        while not (pid := (tmp_path / "log").read_text().strip()):
            assert process.poll() is None
    assert alive([process.pid, int(pid)]) == []


def test_a_part_begins_only_while_time_is_left(setup: Setup) -> None:
    evidence = Evidence("cpu", None, describe_environment())
    gather([Part("support.gpu_parts.hanging", "hanging", 60)], setup, evidence, 1)
    assert evidence.parts["hanging"].trouble == "not run: no time was left"
    assert "| commit | not known |" in (setup.out / "gpu.md").read_text()


def test_the_parts_run_without_a_gpu(setup: Setup) -> None:
    facts = found_by(checks.smoke, setup)
    assert facts["session without torch"] == ["CPUExecutionProvider"]
    assert facts["a small network"]["differences"] == {"logits": 0, "states": 0}
    assert found_by(checks.differences, setup) == {"fp32": {"logits": 0, "states": 0}}
    assert [found.startswith("none") for found in found_by(checks.invariance, setup).values()] == [True, True]
    pooled = found_by(figures.pool, setup)
    assert pooled.pop("opened without allow_inexact") == "yes"
    assert [speed.endswith(" tokens/s") for speed in pooled.values()] == [True]
    assert len(found_by(figures.graphs, setup)) == 2
    assert checks.provide_network(setup) == "untrained"  # the fixture gives an artifact alone
    assert checks.provide_network(setup) == "trained"


def test_a_fact_that_cannot_be_found_leaves_the_others() -> None:
    findings = Findings()
    nothing: list[int] = []
    for name, find in (("first", lambda: 1 / 0), ("second", lambda: 2), ("third", lambda: nothing[0])):
        findings.attempt(name, find)
    assert findings.facts.pop(FAILED).splitlines() == [
        "first: ZeroDivisionError: division by zero",
        "third: IndexError: list index out of range",
    ]
    assert findings.facts == {"second": 2}


@pytest.mark.parametrize(("processor", "device", "size"), [
    ({1: 1.0, 16: 2.0, 256: 9.0}, {1: 3.0, 16: 1.9, 256: 2.0}, 16),
    ({1: 1.0, 16: 2.0, 256: 9.0}, {1: 0.5, 16: 2.0, 256: 2.0}, 256),
    ({1: 1.0, 16: 2.0}, {1: 0.5, 16: 3.0}, None),
    ({1: 1.0, 16: 2.0}, {16: 1.0}, 16),
    ({}, {}, None),
])  # fmt: skip
def test_the_device_is_faster_from_a_size_on(
    processor: dict[int, float], device: dict[int, float], size: int | None
) -> None:
    assert figures.crossover(processor, device) == size


def test_outcomes_of_tests_are_read(tmp_path: Path) -> None:
    report = tmp_path / "tests.xml"
    report.write_text(
        '<testsuites><testsuite><testcase name="a" time="1.5"/><testcase name="b"><failure message="no&#10;more"/>'
        '</testcase><testcase name="c"><skipped message="no GPU"/></testcase></testsuite></testsuites>'
    )
    assert checks.outcomes(report) == {"a": "passed in 1.5 s", "b": "failure: no", "c": "skipped: no GPU"}
    assert checks.outcomes(tmp_path / "none.xml") == {}


@pytest.mark.skipif("cuda" in available_providers(), reason="this onnxruntime carries CUDA")
def test_a_missing_gpu_is_the_trouble_of_the_smoke_test(setup: Setup) -> None:
    facts = found_by(checks.smoke, replace(setup, device="cuda"))
    assert facts[FAILED].startswith("session without torch: ProviderError: provider 'cuda' is not available")
    assert "onnxruntime" in facts


def test_the_program_ends_in_time(tmp_path: Path) -> None:
    finished = run_study("--out", tmp_path, "--seconds", "1")
    assert finished.returncode == 1
    assert len(finished.stdout.splitlines()) == len(PARTS)
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"].values()
    assert {part["trouble"].partition(" in ")[0] for part in parts} == {
        "not run: no time was left",
        "not run: exports wrote no artifact",
    }


@torture_only
def test_the_whole_rehearsal_runs(corpus_folder: Path, tmp_path: Path) -> None:
    finished = run_study("--out", tmp_path, "--device", "cpu", "--small", "--data", corpus_folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert list(found["parts"]) == [part.name for part in PARTS]
    assert {path.name for path in tmp_path.iterdir()} >= {"bench.streams.json", "bench.fp16.json", "gpu.md", "gpu.log"}


def found_by(part: Callable[[Setup, Findings], None], setup: Setup) -> Facts:
    findings = Findings()
    part(setup, findings)
    return findings.facts


def run_study(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(STUDY), *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LMTOOL_", "PYTEST_"))}
    return subprocess.run(command, capture_output=True, text=True, env=environment)

"""Results beside earlier ones: figures by hand, and the gate with its positive control."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import lmtool
from handmade import make_results
from lmtool.bench import BenchError, describe_environment
from lmtool.bench.comparing import compare, parse_share, read_results
from lmtool.runtime import Artifact, OptionError

STEADY = {"torch": [[4e-3, 4e-3, 5e-3], [8e-3]], "onnx fp32": [[2e-3, 2e-3], [1e-3, 1e-3, 9e-3]]}


def saved(rounds: dict[str, list[list[float]]], folder: Path) -> dict[str, Any]:
    make_results(rounds).write(folder / "bench.json")
    return read_results(folder / "bench.json")


def test_the_fastest_rounds_are_compared(tmp_path: Path) -> None:
    before = saved(STEADY, tmp_path)
    now = make_results({"torch": [[4.2e-3], [9e-3]], "onnx fp32": [[1.2e-3], [5e-3]]})
    found = compare(before, now, None, False)
    assert [(change.runtime, change.before, change.after) for change in found.changes] == [
        ("torch", 4e-3, 4.2e-3),
        ("onnx fp32", 1e-3, 1.2e-3),
    ]
    assert [change.slower for change in found.changes] == pytest.approx([0.05, 0.2])
    assert found.failures == []
    assert "+20.0%" in found.format()
    assert compare(before, now, 0.25, False).failures == []
    tight = compare(before, now, 0.1, False)
    assert [line.partition(":")[0] for line in tight.failures] == ["onnx fp32, single-stream"]
    assert len(compare(before, now, 0.0, False).failures) == 2
    assert json.loads(json.dumps(tight.to_json()))["failures"]


def test_what_is_not_measured_any_more_is_a_failure(tmp_path: Path) -> None:
    before = saved(STEADY, tmp_path)
    found = compare(before, make_results({"torch": STEADY["torch"]}), 0.1, False)
    assert found.failures == ["onnx fp32, single-stream: batch 1, one token a call: measured before, not now"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provider": "cuda"}, "provider was cpu, is cuda"),
        ({"threads": 2}, "threads was 1, is 2"),
        ({"environment": {"processor": "another", "usable_cores": 2}}, "processor was a processor, is another"),
        ({"environment": {"processor": "a processor", "usable_cores": 8}}, "usable_cores was 2, is 8"),
        ({"artifacts": {"onnx fp32": "0" * 64}}, "the artifact of onnx fp32 was 5eed5eed5eed, is 000000000000"),
    ],
)
def test_results_of_something_else_are_not_compared(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    before = saved(STEADY, tmp_path)
    now = replace(make_results(STEADY), **change)
    with pytest.raises(BenchError, match=f"do not belong together: {message}; .*--compare-anyway"):
        compare(before, now, 0.1, False)
    assert compare(before, now, 0.1, True).failures == []


@pytest.mark.parametrize(
    ("content", "message"),
    [("[]", "format None, expected 2"), ('{"format": 1}', "format 1, expected 2"), ("text", "it is not JSON")],
)
def test_a_file_without_results_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bench.json").write_text(content)
    with pytest.raises(BenchError, match=message):
        read_results(tmp_path / "bench.json")


def test_a_share_is_a_percentage() -> None:
    assert parse_share("10%") == pytest.approx(0.1)
    assert parse_share("0%") == 0
    for text in ("10", "-1%", "x%", "%", "10%x", "nan%"):
        with pytest.raises(OptionError, match="is no percentage"):
            parse_share(text)


def test_the_command_is_a_gate(place: Path) -> None:
    """An earlier run of a nanosecond a call is one that nothing keeps up with."""
    artifact = Artifact.read(place / "runs" / "tiny" / "model.onnx")
    earlier = make_results({"torch": [[1e-9]], "onnx fp32": [[1e9]]})
    environment = describe_environment()
    replace(earlier, environment=environment, artifacts={"onnx fp32": artifact.sha256}).write(place / "earlier.json")
    arguments = ["--rounds", 1, "--batch", 1, "--time", 1, "--compare", "earlier.json", "--fail-if-slower", "900%"]
    finished = lmtool("bench", *arguments, "--json", cwd=place)
    assert finished.returncode == 3
    found = json.loads(finished.stdout)["comparison"]
    assert [change["runtime"] for change in found["changes"]] == ["torch", "onnx fp32"]
    assert [failure.partition(",")[0] for failure in found["failures"]] == ["torch"]

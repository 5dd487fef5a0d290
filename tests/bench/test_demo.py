"""The demonstration's summary by hand: at most ten lines, whatever was measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.models.demo import make_demo
from support.models.results import make_results

ROUNDS = {"torch": [[4e-3], [4e-3]], "onnx fp32": [[2e-3], [2e-3]], "onnx int8": [[1e-3], [1e-3]]}


def summary_of(rounds: dict[str, list[list[float]]], **parts: Any) -> list[str]:
    return make_demo(make_results(rounds, **parts)).summary().splitlines()


def test_the_summary_is_one_line_a_fact() -> None:
    assert summary_of(ROUNDS) == [
        "perplexity  65.6 on the test text (5,000 tokens), 2.300 bits per byte; word frequencies alone: 268.2",
        "parity      largest difference from PyTorch 1.9e-06 in 1 comparisons; 0 of 1,000 closed-loop steps differ",
        "fp32        4.7 MB, perplexity 65.61; speed-up over torch: single-stream 2.00 (2.00 to 2.00)",
        "int8        2.1 MB, perplexity 65.70; speed-up over torch: single-stream 4.00 (4.00 to 4.00)",
        "text        return the object. it is a class.",
        f"model       {Path('model.onnx').resolve()}",
        f"report      {Path('bench.html').resolve()}",
        f"chart       {Path('bench.png').resolve()}",
    ]


def test_a_busy_machine_is_named() -> None:
    busy = [line for line in summary_of({**ROUNDS, "torch": [[4e-3], [9e-3]]}) if line.startswith("warning")]
    assert busy == ["warning     the machine was busy, rounds differ by more than 10 %: compare the speed-ups"]


@pytest.mark.parametrize("what", ["failed", "crashed"])
def test_untimed_artifacts_are_named_in_one_line(what: str) -> None:
    reason = "logits differ\nby 0.3 " * 99
    rounds = {name: times for name, times in ROUNDS.items() if name != "onnx int8"}
    lines = summary_of(rounds, **{what: {"onnx int8": [reason] if what == "failed" else reason}})
    assert len(lines) <= 10
    (warning,) = [line for line in lines if line.startswith("warning")]
    assert warning.startswith("warning     not timed: onnx int8: logits differ by 0.3 logits")
    assert len(warning) < 180
    assert [line for line in lines if line.startswith("int8")] == ["int8        2.1 MB, perplexity 65.70"]


def test_a_long_text_is_cut() -> None:
    demo = replace(make_demo(make_results(ROUNDS)), sample=" word" * 200)
    (line,) = [line for line in demo.summary().splitlines() if line.startswith("text")]
    assert len(line) < 180
    assert line.endswith(" word ...")

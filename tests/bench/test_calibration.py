"""The calibration of the rule of comparisons, on rounds that are made up."""

import json
import sys
from collections import deque
from pathlib import Path

import calibration
import numpy as np
import pytest
from lmtool.bench import Round
from lmtool.bench.workers.launch import RoundResult


def test_the_table_tells_false_alarms_and_what_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Turns that differ by 3 % at random, on a machine that becomes slower by half."""
    random = np.random.default_rng(0)
    drift = np.linspace(1e-3, 1.5e-3, 80)
    times = deque(drift[:, None] * np.exp(random.normal(0, 0.03, (80, 2))))
    turns = deque(seconds for pair in times for seconds in pair)

    def timed(candidate: object, scenarios: list[object], seconds: float) -> RoundResult:
        return RoundResult(dict.fromkeys(scenarios, Round([turns.popleft()] * 4)))

    monkeypatch.setattr(calibration, "run_timing_job", timed)
    out = tmp_path / "rounds.jsonl"
    for rounds in ("40", "80", "0"):  # continued, then read again
        options = ["--model", "model.onnx", "--rounds", rounds, "--windows", "20", "--out", str(out)]
        monkeypatch.setattr(sys, "argv", ["calibration.py", *options])
        calibration.main()
    assert [json.loads(line)["round"] for line in out.read_text().splitlines()][-2:] == [79, 79]
    lines = [line.rsplit(maxsplit=6) for line in capsys.readouterr().out.splitlines()]
    shares = {(rule, rounds): found for rule, rounds, _, *found in lines if rule != "rule"}
    assert shares["in turns", "40"] == ["0.0%", "100.0%", "100.0%", "100.0%"]
    assert shares["two runs", "20"][0] == "100.0%"  # the machine's drift
    assert {rounds for rule, rounds in shares if rule == "two runs"} == {"5", "10", "20", "40"}

"""The measurement of a predictor's costs: both sides do the same work, and the report says what was measured."""

import sys
from pathlib import Path

import numpy as np
import predictor_overhead
import pytest
from lmtool.runtime import Predictor


def test_the_bare_loop_and_the_steps_do_the_same(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[np.ndarray]] = []
    run = predictor.session.run

    class Watched:
        def run(self, outputs: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            made.append(run(outputs, feed))
            return made[-1]

    monkeypatch.setattr(predictor, "session", Watched())
    monkeypatch.setattr(predictor.network._runner, "_session", predictor.session)
    cost = predictor_overhead.measure_step(predictor, 3, 4)
    assert (len(cost.bare), len(cost.step), len(made)) == (4, 4, 8)
    for first, second in zip(made[::2], made[1::2], strict=True):
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(first, second, strict=True))
    assert not np.array_equal(made[0][0], made[-1][0])  # the loops are closed


def test_a_ratio_is_that_of_the_percentiles() -> None:
    assert predictor_overhead.StepCost(1, [1.0, 2.0, 9.0], [2.0, 3.0, 3.0]).ratio(50) == 1.5


@pytest.mark.skipif(sys.platform != "linux", reason="the resident set is read from Linux's /proc")
def test_the_report_tells_imports_steps_and_scoring(
    artifact_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["--calls", "5", "--tokens", "3000", "--repeats", "1", "--batch", "1", "4"]
    monkeypatch.setattr(sys, "argv", ["predictor_overhead.py", "--model", str(artifact_path), *small])
    predictor_overhead.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("import: numpy and onnxruntime ")
    assert [line.split()[0] for line in lines[4:6]] == ["1", "4"]
    assert lines[-1].startswith("scoring 3,000 tokens: ")

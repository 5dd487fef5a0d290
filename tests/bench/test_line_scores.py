"""The study of many lines: every way to score is measured beside bare calls of each shape."""

import sys
from pathlib import Path

import line_scores
import pytest
from support.corpora import sentences


@pytest.mark.skipif(sys.platform == "win32", reason="the processor time of children is read as on Unix")
def test_the_report_compares_each_way_with_the_best_bare_call(
    artifact_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "lines.txt"
    text.write_text(sentences(100, seed=3))
    monkeypatch.setattr(line_scores, "_SECONDS_PER_SHAPE", 0.01)
    arguments = ["--model", str(artifact_path), "--text", str(text), "--lines", "150", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["line_scores.py", *arguments])
    line_scores.main()
    lines = capsys.readouterr().out.splitlines()
    assert "150 lines of" in lines[1]
    assert [line.split("  ")[0] for line in lines[3 + len(line_scores.SHAPES) :]] == ["scores", "lmtool score", "score"]


def test_shares_are_those_of_the_best_bare_call_in_each_round() -> None:
    rates = {"bare 1x1": [20.0, 30.0, 1.0], "bare 8x8": [40.0, 50.0, 100.0], "scores": [30.0, 25.0, 20.0]}
    rows = [line.split() for line in line_scores.format_report(rates)[-3:]]
    assert rows[0][-3:] == ["50%", "1%", "60%"]
    assert rows[1][-4:] == ["50", "100%", "100%", "100%"]
    assert rows[2][-4:] == ["25", "50%", "20%", "75%"]

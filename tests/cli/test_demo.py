"""The demo command: one updated line on a terminal, a line for each stage elsewhere, ten lines at the end."""

import io
import json
import re
from typing import Any

import pytest
import typer
from lmtool.bench import Demo
from lmtool.bench.demo import DemoStep
from lmtool.cli import bench
from lmtool.cli.demo_progress import DemoProgress
from support.models.demo import make_demo
from support.models.results import make_results

STEPS = [
    DemoStep(1, 2, "training", 0, 1, "runs/demo"),
    DemoStep(2, 2, "measuring", 0, 4, "parity of onnx fp32"),
    DemoStep(2, 2, "measuring", 1, 4, "round 1 of 1: [bold]\x1b[2J"),
]
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class AtTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(progress: DemoProgress) -> None:
    with progress:
        progress(STEPS[0])
        progress.step(30, 120, 1, 4.2, 66.7, 1000.0)
        progress._line and progress._line.refresh()
        progress.record({"kind": "valid", "epoch": 1, "perplexity": 66.7, "bits_per_byte": 2.3, "seconds": 1.0})
        for step in STEPS[1:]:
            progress(step)
        progress._line and progress._line.refresh()


def test_a_log_has_a_line_for_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    show(DemoProgress())
    assert capsys.readouterr() == ("", "1 of 2: training\n2 of 2: measuring\n")


def test_a_terminal_has_one_line_that_is_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = AtTerminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stderr", terminal)
    show(DemoProgress())
    written = terminal.getvalue()
    shown = [line.strip() for line in re.split(r"[\r\n]+", CONTROLS.sub("", written)) if line.strip()]
    assert any(re.fullmatch(r"1 of 2: training +25% +\S+ left perplexity 66\.7", line) for line in shown), shown
    assert re.fullmatch(r"2 of 2: measuring +25% +\S+ left round 1 of 1: \[bold\]\\x1b\[2J", shown[-1])
    assert all(len(line) <= 80 for line in shown)
    assert written.count("\n") == 1  # at the end, before the line is erased
    assert written.endswith("\x1b[2K")


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Demo:
    """The result of the command, without minutes of work."""
    demo = make_demo(make_results({"torch": [[4e-3]], "onnx fp32": [[2e-3]], "onnx int8": [[1e-3]]}))

    def run_demo(reporter: Any, progress: Any) -> Demo:
        for step in STEPS:
            progress(step)
        return demo

    monkeypatch.setattr("lmtool.bench.demo.run_demo", run_demo)
    return demo


def test_the_command_prints_ten_lines_or_all_results_as_json(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    bench.demo()
    printed = capsys.readouterr()
    assert printed.out == f"{demo.summary()}\n"
    assert len(printed.out.splitlines()) <= 10
    assert printed.err.splitlines() == ["1 of 2: training", "2 of 2: measuring"]
    bench.demo(as_json=True)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(demo.to_json()))


def test_a_runtime_that_fails_ends_the_command_with_3(monkeypatch: pytest.MonkeyPatch) -> None:
    demo = make_demo(make_results({"torch": [[4e-3]]}, failed={"onnx fp32": ["logits differ"]}))
    monkeypatch.setattr("lmtool.bench.demo.run_demo", lambda *_: demo)
    with pytest.raises(typer.Exit) as ended:
        bench.demo()
    assert ended.value.exit_code == 3

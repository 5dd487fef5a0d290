"""Tables and progress fit the terminal: at 40, 80 and 120 columns nothing is cut, and time left is shown."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from lmtool.bench import format_table
from lmtool.bench.demo import DemoStep
from lmtool.cli import output
from lmtool.cli.demo_progress import DemoProgress
from lmtool.cli.export import info
from lmtool.cli.heat import Heat
from lmtool.cli.progress import FittedProgress, ProgressBar, training_parts
from lmtool.cli.recipes import presets, settings
from lmtool.cli.train import list_data
from lmtool.runtime import Predictor
from lmtool.runtime.io.text_table import folded
from rich.console import Console
from support.corpora import write_corpus
from support.models.results import make_results
from support.processes.commands import TRAIN
from support.processes.terminal import Terminal

WIDTHS = (40, 80, 120)
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HASH = re.compile(r"\b[0-9a-f]{64}\b")
PATHS = re.compile(r"\S*/\S+")
TIMES = [[1.234e-3, 1.5e-3], [1.3e-3, 1.8e-3]]
RECORDS = [
    {"kind": "train", "epoch": 0.5, "perplexity": 120.0, "tokens_per_second": 9000.0},
    {"kind": "train", "epoch": 1.0, "perplexity": 92.1, "tokens_per_second": 12345.0},
    {"kind": "valid", "epoch": 1, "perplexity": 81.2, "bits_per_byte": 1.7712, "seconds": 60.0},
]


def numbers(text: str) -> list[str]:
    return sorted(re.findall(r"\d[\d,.]*", text))


@pytest.mark.parametrize("command", [presets, settings, list_data, "info"], ids=["presets", "settings", "data", "info"])
def test_tables_fit_and_lose_no_number(
    command: Callable[[], None] | str,
    artifact_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shown() -> str:
        info(artifact_path) if isinstance(command, str) else command()
        return capsys.readouterr().out

    whole = shown()
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        text = shown()
        assert set(numbers(whole)) == set(numbers(text))
        long = [line for line in text.splitlines() if len(line) > width]
        assert [line for line in long if not HASH.search(line) and not PATHS.search(line)] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_of_bench_fits(width: int) -> None:
    results = make_results({"torch": TIMES, "onnxruntime-node": TIMES, "onnx int8": TIMES})
    text = folded(format_table(results, width), width)
    assert max(map(len, text.splitlines())) <= width
    assert set(numbers(text)) == set(numbers(format_table(results)))
    assert text.count("onnxruntime-node ") == {40: 4, 80: 2, 120: 1}[width]


@pytest.mark.parametrize(("width", "parts"), [(40, 0), (80, 3), (120, 3)])
def test_the_bar_keeps_percentage_and_time_left(width: int, parts: int) -> None:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    progress = FittedProgress(console, training_parts)
    task = progress.add_task("training", total=200, epoch=13, loss=4.567, perplexity=123.4, speed=12345.0)
    progress.update(task, completed=50)
    console.print(progress)
    (line,) = file.getvalue().splitlines()
    assert len(line) <= width
    assert re.match(r"epoch 13 [━╸╺ ]{7,} +25% +\S+", line)
    assert sum(part in line for part in ("perplexity 123.4", "12,345 tokens/s", "loss 4.567")) == parts


@pytest.mark.parametrize("width", WIDTHS)
def test_the_line_of_the_demo_keeps_percentage_and_time_left(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stderr", AtTerminal())
    progress = DemoProgress()
    assert progress._line is not None
    progress(DemoStep(3, 4, "exporting and verifying", 1, 4, "round 1 of 5: onnxruntime-node"))
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=True, color_system=None).print(progress._line)
    (line,) = file.getvalue().splitlines()
    assert len(line) <= width
    assert re.match(r"3 of 4: exporting\S* .* 25% +\S+ left", line)
    assert ("onnxruntime-node" in line) == (width == 120)


def test_a_log_has_one_line_an_epoch_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar() as progress:
        progress.step(250, 1000, 1, 4.5, 92.1, 12345.0)
        for record in RECORDS:
            progress.record(record)
    assert capsys.readouterr().err == (
        "epoch 1  train perplexity 92.10  valid perplexity 81.20 (1.771 bits per byte)  12,345 tokens/s  "
        "after 60 s  about 3 min left\n"
    )


@pytest.mark.parametrize(("columns", "term"), [(40, "xterm-256color"), (80, "dumb")])
def test_a_training_on_a_terminal(tmp_path: Path, columns: int, term: str) -> None:
    data = write_corpus(tmp_path / "data")
    with Terminal(*TRAIN, "--data", data, "--epochs", 2, cwd=tmp_path, columns=columns, term=term) as terminal:
        assert terminal.exit_code() == 0
    if term == "dumb":
        assert "\x1b" not in terminal.shown
        assert len(re.findall(r"^epoch \d  train", terminal.shown, re.M)) == 2
        return
    lines = re.split(r"[\r\n]+", CONTROLS.sub("", terminal.shown))
    assert any(re.match(r"epoch \d .* +\d+% +\S+", line) for line in lines)
    assert [line for line in lines if len(line) > columns and "epoch" not in line and "/" not in line] == []


@pytest.mark.parametrize("columns", [40, 80])
def test_a_table_fits_a_real_terminal(tmp_path: Path, columns: int) -> None:
    with Terminal("presets", cwd=tmp_path, columns=columns) as terminal:
        assert terminal.exit_code() == 0
    lines = CONTROLS.sub("", terminal.shown).replace("\r", "").splitlines()
    assert columns - 15 < max(map(len, lines)) <= columns


def test_prose_is_wrapped_on_terminals_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "  perplexity          65.4448, the original's 65.4448 (+0.0000%, allowed 0.10%)"
    output.print_result(False, line, None)
    assert capsys.readouterr().out == f"{line}\n"
    monkeypatch.setenv("COLUMNS", "40")
    output.print_result(False, line, None)
    assert capsys.readouterr().out == (
        "  perplexity          65.4448, the\n      original's 65.4448 (+0.0000%,\n      allowed 0.10%)\n"
    )


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}])
def test_terminals_without_colours_get_none(
    predictor: Predictor, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", AtTerminal())
    assert Heat.of_terminal(predictor.vocabulary.tokenization) is not None
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Heat.of_terminal(predictor.vocabulary.tokenization) is None


class AtTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True

"""Output: control characters from files are escaped; errors of users become messages, bugs keep their traceback."""

import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import typer
from lmtool.cli import output
from lmtool.cli.heat import Heat
from lmtool.export.build import seal
from lmtool.runtime import Predictor
from lmtool.runtime.artifact.artifact import HASH_KEY
from rich.console import Console
from support.corpora import write_corpus
from support.processes.commands import TRAIN, lmtool

TITLE = "\x1b]0;title\x07\x9b2J\x7f\r"
SHOWN = r"\x1b]0;title\x07\x9b2J\x7f\x0d"


def artifact_with(path: Path, artifact_path: Path, **metadata: str) -> Path:
    model = onnx.load(artifact_path)
    known = {entry.key: entry.value for entry in model.metadata_props if entry.key != HASH_KEY}
    path.write_bytes(seal(model, {**known, **{f"lmtool.{key}": value for key, value in metadata.items()}}))
    return path


def test_metadata_cannot_control_the_terminal(artifact_path: Path, tmp_path: Path) -> None:
    path = artifact_with(tmp_path / "model.onnx", artifact_path, training=json.dumps({"corpus": f"a\tb{TITLE}"}))
    finished = lmtool("info", "--model", path)
    assert finished.returncode == 0, finished.stderr
    assert f"  a\tb{SHOWN}\n" in finished.stdout
    assert json.loads(lmtool("info", "--model", path, "--json").stdout)["training"]["corpus"] == f"a\tb{TITLE}"
    finished = lmtool("info", "--model", tmp_path / "none\x1b[2J")
    assert r"cannot read" in finished.stderr
    assert r"none\x1b[2J" in finished.stderr


class AtTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("file", "written"), [(AtTerminal(), SHOWN), (io.StringIO(), TITLE)])
def test_model_text_is_escaped_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, file: io.StringIO, written: str
) -> None:
    monkeypatch.setattr("sys.stdout", file)
    output.print_text(f"\u00e9\n\t{TITLE}")
    assert file.getvalue() == f"\u00e9\n\t{written}"


@pytest.mark.parametrize(("quota", "given", "expected"), [(None, "", None), (1.5, "", "2"), (1.5, "1", "1")])
def test_openmp_follows_the_quota_of_a_container(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, given: str, expected: str | None
) -> None:
    monkeypatch.setattr("lmtool.runtime.system.cpu_quota", lambda: quota)
    monkeypatch.setattr("lmtool.runtime.system.usable_cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    if not given:
        monkeypatch.delenv("OMP_NUM_THREADS")
    seen: list[str | None] = []
    output.with_exit_codes(lambda: seen.append(os.environ.get("OMP_NUM_THREADS")))()
    assert seen == [expected]


def test_results_and_status_lines_are_always_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_result(False, TITLE, None)
    output.print_status(TITLE)
    assert capsys.readouterr() == (f"{SHOWN}\n", f"{SHOWN}\n")
    output.print_result(False, f"\x1b[31m{output.escaped(TITLE)}\x1b[0m", None, coloured=True)
    assert capsys.readouterr().out == f"\x1b[31m{SHOWN}\x1b[0m\n"


def test_coloured_text_is_escaped(predictor: Predictor) -> None:
    heat = Heat(Console(force_terminal=True, color_system="standard"), predictor.vocabulary)
    text = "the \x1b[2Jcat"
    shown = heat.coloured(text, predictor.score(text))
    assert r"\x1b[2Jcat" in shown
    assert "\x1b[2J" not in shown
    assert "\x1b[" in shown  # the positive control: colours are escape sequences too


def raising(code: int) -> Callable[[], None]:
    def function() -> None:
        raise OSError(code, os.strerror(code), "a name")

    return function


@pytest.mark.parametrize("code", [errno.ENAMETOOLONG, errno.EACCES, errno.ENOSPC, errno.EIO])
def test_path_and_disk_errors_are_messages(capsys: pytest.CaptureFixture[str], code: int) -> None:
    with pytest.raises(typer.Exit) as ended:
        output.with_exit_codes(raising(code))()
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == f"error: cannot use a name: {os.strerror(code)}\n"


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR])
def test_bugs_are_not_hidden(code: int) -> None:
    with pytest.raises(OSError, match="a name"):
        output.with_exit_codes(raising(code))()


@pytest.mark.parametrize("key", ["parity", "training"])
def test_metadata_that_nests_too_deep_is_a_message(artifact_path: Path, tmp_path: Path, key: str) -> None:
    path = artifact_with(tmp_path / "model.onnx", artifact_path, **{key: '{"a":' * 900 + "1" + "}" * 900})
    finished = lmtool("info", "--model", path, "--json")
    assert (finished.returncode, finished.stdout) == (1, "")
    assert f"its metadata lmtool.{key} is JSON that nests 900 levels deep, expected 100 at most" in finished.stderr


def test_special_files_are_refused(artifact_path: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        finished = lmtool("score", "--model", path, "the cat")
        assert (finished.returncode, finished.stdout) == (1, "")
        assert f"error: cannot read {path}: it is a pipe, a device or another special file" in finished.stderr
    assert "perplexity" in lmtool("score", "--model", artifact_path, stdin="the cat").stdout


@pytest.mark.parametrize(
    "setting", ["learning_rate=1e308", "init_range=1e39", "clip_norm=1e-320", f"seed={'9' * 5000}"]
)
def test_extreme_settings_give_a_short_message(tmp_path: Path, setting: str) -> None:
    finished = lmtool(*TRAIN, "--data", write_corpus(tmp_path / "data"), "--set", setting, "--run", tmp_path / "run")
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"error: {setting.partition('=')[0]} is ")
    assert len(finished.stderr) < 200
    assert not (tmp_path / "run").exists()


def test_results_that_nest_too_deep_are_a_message(artifact_path: Path, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("[" * 100_000)
    finished = lmtool("bench", "--model", artifact_path, "--compare", tmp_path / "old.json")
    assert finished.returncode == 1
    assert "old.json holds no results: it is JSON that nests 100,000 levels deep" in finished.stderr

"""The latest run and export: by the starts that runs record, in any copy of their folder."""

import datetime
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from lmtool.cli.options import latest_model, run_or_latest
from lmtool.model import Run, latest_run, load_corpus, preset_named
from lmtool.runtime import StorageError, latest_artifact
from lmtool.runtime.artifact.run_folders import next_start, run_folders, why_latest

EARLY, LATE = "2026-03-01T10:00:00.000001+00:00", "2026-03-01T12:00:00.000002+02:00"
LATER = "2026-03-01T10:00:00.000003+00:00"


def make_run(folder: Path, started: str | None, modified: int) -> Path:
    """A folder with the configuration and the export of a run, as far as `latest` reads them."""
    folder.mkdir(parents=True)
    facts = {"training": {}, **({} if started is None else {"started": started})}
    (folder / "config.json").write_text(json.dumps(facts))
    (folder / "model.onnx").write_bytes(b"")
    for file in folder.iterdir():
        os.utime(file, (modified, modified))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs whose names and file times are in another order than their starts."""
    make_run(tmp_path / "runs" / "c", EARLY, 30)
    make_run(tmp_path / "runs" / "a", LATER, 10)
    make_run(tmp_path / "runs" / "b", LATE, 20)
    return tmp_path / "runs"


def names(runs: Path) -> list[str]:
    return [folder.path.name for folder in run_folders(runs)]


def test_a_copy_has_the_same_latest_run_and_export(runs: Path, tmp_path: Path) -> None:
    assert names(runs) == ["c", "b", "a"]
    for name in ("a", "c", "b"):
        shutil.copytree(runs / name, tmp_path / "copy" / name, copy_function=shutil.copyfile)
        time.sleep(0.01)
    assert max((tmp_path / "copy").glob("*/*.onnx"), key=lambda path: path.stat().st_mtime_ns).parent.name == "b"
    for folder in (runs, tmp_path / "copy"):
        assert latest_run(folder).path == folder / "a"
        assert latest_artifact(folder) == folder / "a" / "model.onnx"


def test_the_choice_is_said_with_its_reason(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs.parent)
    assert run_or_latest(None) == Path("runs/a")
    assert latest_model() == Path("runs/a/model.onnx")
    assert run_or_latest(Path("elsewhere")) == Path("elsewhere")
    local = datetime.datetime.fromisoformat(LATER).astimezone()
    reason = f"(latest of 3, started {local:%Y-%m-%d %H:%M:%S})\n"
    assert capsys.readouterr().err == f"run: runs/a {reason}model: runs/a/model.onnx {reason}"


def trained_at(folder: Path, time: str) -> None:
    """Write the records of a training whose last one is of this time."""
    records = [{"kind": "train", "epoch": 0.05, "time": EARLY}, {"kind": "valid", "epoch": 1, "time": time}]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))


def test_a_run_that_went_on_is_the_latest(runs: Path) -> None:
    trained_at(runs / "b", EARLY)
    assert names(runs) == ["c", "b", "a"]
    trained_at(runs / "c", "2026-03-02T10:00:00+00:00")
    assert names(runs) == ["b", "a", "c"]
    assert latest_run(runs).path == runs / "c"
    assert latest_artifact(runs) == runs / "c" / "model.onnx"
    local = datetime.datetime.fromisoformat("2026-03-02T10:00:00+00:00").astimezone()
    assert why_latest(run_folders(runs)) == f"latest of 3, last trained {local:%Y-%m-%d %H:%M:%S}"
    assert next_start(runs) > "2026-03-02T10:00:00+00:00"


@pytest.mark.parametrize("text", ["", "x", '{"time": 5}\n', '{"time": "2027-01-01T00:00:00"}\n', "[]\n", "9" * 9000])
def test_records_without_a_time_change_no_order(runs: Path, text: str) -> None:
    (runs / "c" / "metrics.jsonl").write_text(text)
    assert names(runs) == ["c", "b", "a"]


def test_runs_without_a_start_are_the_oldest(runs: Path) -> None:
    make_run(runs / "old", None, 2_000_000_000)
    make_run(runs / "older", None, 1_900_000_000)
    make_run(runs / "without-zone", "2027-01-01T00:00:00", 1_800_000_000)
    assert names(runs) == ["without-zone", "older", "old", "c", "b", "a"]
    for name in "abc":
        shutil.rmtree(runs / name)
    assert why_latest(run_folders(runs)).startswith("latest of 3, start not recorded, file time 2033-05-")


def test_a_copy_beside_its_run_is_not_the_latest(runs: Path) -> None:
    shutil.copytree(runs / "a", runs / "a-backup")
    assert names(runs) == ["c", "b", "a-backup", "a"]
    assert why_latest(run_folders(runs)).endswith("; a-backup has the same time and may be a copy")


def test_folders_that_are_no_runs_are_left_out(runs: Path) -> None:
    (runs / "empty").mkdir()
    (runs / "config.json").write_text("{}")
    for name, text in (("transformer", '{"hidden_size": 3, "started": "2030-01-01T00:00:00+00:00"}'), ("list", "[]")):
        (runs / name).mkdir()
        (runs / name / "config.json").write_text(text)
    assert names(runs) == ["c", "b", "a"]
    (runs / "export").mkdir()
    (runs / "export" / "model.onnx").write_bytes(b"")
    assert latest_artifact(runs) == runs / "a" / "model.onnx"


def test_a_damaged_run_is_not_passed_over(runs: Path) -> None:
    (runs / "b" / "config.json").write_text('{"training": ')
    message = r"which run in .* is the latest is not known: .*b/config\.json is not JSON.*name the run or file: --run"
    for latest in (latest_run, latest_artifact):
        with pytest.raises(StorageError, match=message):
            latest(runs)


def test_a_clock_that_was_set_back_does_not_hide_a_new_run(runs: Path, corpus_folder: Path) -> None:
    make_run(runs / "future", "2999-01-01T00:00:00+00:00", 1)
    (runs / "b" / "config.json").write_text("damaged")
    assert next_start(runs) == "2999-01-01T00:00:00.000001+00:00"
    Run(runs / "0").create(preset_named("quick"), load_corpus(str(corpus_folder), "auto"))
    (runs / "b" / "config.json").unlink()
    assert latest_run(runs).path.name == "0"


def test_a_run_records_its_start(run: Run) -> None:
    folders = run_folders(run.path.parent)
    assert [folder.path for folder in folders] == [run.path]
    assert folders[0].started is not None
    assert abs(folders[0].started.timestamp() - time.time()) < 3600
    assert folders[0].trained is not None
    assert folders[0].started < folders[0].trained == folders[0].active

"""Which of several exports a command takes where none is named."""

import json
import os
import shutil
from pathlib import Path

import onnx
import pytest
from lmtool.export.build import seal
from lmtool.model import Run
from lmtool.runtime import Artifact, ArtifactError, latest_artifact
from lmtool.runtime.artifact.artifact import HASH_KEY
from lmtool.runtime.artifact.choice import choose_artifact
from lmtool.runtime.artifact.original import outdated, outdated_exports
from support.models.older_files import older_file
from support.processes.commands import lmtool


@pytest.fixture
def runs(tmp_path: Path, run: Run) -> Path:
    """A run with fp32 and, written last, int8."""
    shutil.copytree(run.path, tmp_path / "runs" / "tiny")
    for number, name in enumerate(("model.onnx", "model.int8.onnx")):
        os.utime(tmp_path / "runs" / "tiny" / name, (1e9 + number, 1e9 + number))
    return tmp_path / "runs"


def change(path: Path, **metadata: str) -> None:
    """Rewrite metadata of an artifact; its file time stays."""
    times = path.stat()
    model = onnx.load(path)
    known = {entry.key: entry.value for entry in model.metadata_props if entry.key != HASH_KEY}
    path.write_bytes(seal(model, {**known, **{f"lmtool.{key}": value for key, value in metadata.items()}}))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_the_most_exact_export_is_taken_whatever_was_written_last(runs: Path) -> None:
    path, reason = choose_artifact(runs)
    assert path == latest_artifact(runs) == runs / "tiny" / "model.onnx"
    assert reason.startswith("fp32, the most exact of 2 exports; ")


@pytest.mark.parametrize(
    ("invariant", "taken", "why"),
    [
        ((True, True), "model.int8.onnx", "int8, the fastest batch-invariant of 2 exports"),
        ((True, False), "model.onnx", "fp32, the fastest batch-invariant of 2 exports"),
        ((False, False), "model.int8.onnx", "int8, the fastest, as none is batch-invariant, of 2 exports"),
    ],
)
def test_a_server_takes_the_fastest_that_is_batch_invariant(
    runs: Path, invariant: tuple[bool, bool], taken: str, why: str
) -> None:
    for name, value in zip(("model.onnx", "model.int8.onnx"), invariant, strict=True):
        change(runs / "tiny" / name, batch_invariant=str(value).lower())
    path, reason = choose_artifact(runs, serving=True)
    assert (path.name, reason.partition(";")[0]) == (taken, why)
    on_a_gpu, _ = choose_artifact(runs, serving=True, provider="cuda")
    assert on_a_gpu.name == "model.onnx"


@pytest.mark.parametrize(("older", "taken"), [("model.onnx", "model.int8.onnx"), ("model.int8.onnx", "model.onnx")])
def test_exports_of_older_weights_are_left_out(runs: Path, older: str, taken: str) -> None:
    parity = Artifact.read(runs / "tiny" / older).parity
    assert parity["original_sha256"]
    change(runs / "tiny" / older, parity=json.dumps({**parity, "original_sha256": "0" * 64}))
    assert choose_artifact(runs).path.name == taken
    (runs / "tiny" / taken).unlink()
    assert choose_artifact(runs).path.name == older
    again = f"lmtool export --run {runs / 'tiny'}{' --precision int8' if 'int8' in older else ''}"
    assert outdated_exports(runs / "tiny") == [
        f"{runs / 'tiny' / older} is older than the weights of its run; export again: {again}"
    ]


@pytest.mark.parametrize("precision", ["int8", "w8"])
def test_files_of_earlier_versions_are_to_be_exported_again(runs: Path, precision: str) -> None:
    path = older_file(runs / "tiny" / "model.onnx", precision, runs / "tiny" / f"model.{precision}.onnx")
    again = "of an earlier version, not batch-invariant; export again: lmtool export --run"
    assert outdated_exports(runs / "tiny") == [f"{path} is {precision} {again} {path.parent} --precision int8"]
    assert f"warning: {path} is {precision} {again}" in lmtool("info", "--model", path).stderr
    lonely = shutil.copy(path, runs / "model.onnx")
    assert outdated(lonely, Artifact.read(lonely)) == f"{lonely} is {precision} {again} DIR --precision int8"


def test_without_the_checkpoint_the_newest_export_counts(runs: Path) -> None:
    change(runs / "tiny" / "model.onnx", parity="{}")
    for damage in (b"", b"\xff" * 20, (2).to_bytes(8, "little") + b"{}", None):
        best = runs / "tiny" / "checkpoints" / "best.safetensors"
        best.unlink() if damage is None else best.write_bytes(damage)
        assert choose_artifact(runs).path.name == "model.int8.onnx"
        assert outdated_exports(runs / "tiny") == []


def test_files_that_are_no_artifacts_are_left_out(runs: Path) -> None:
    (runs / "tiny" / "sherpa.onnx").write_bytes(b"another format")
    assert choose_artifact(runs).path.name == "model.onnx"
    for name in ("model.onnx", "model.int8.onnx"):
        (runs / "tiny" / name).unlink()
    assert choose_artifact(runs).path.name == "sherpa.onnx"  # whose error the command reports
    (runs / "tiny" / "sherpa.onnx").unlink()
    with pytest.raises(ArtifactError, match="there is no exported model"):
        choose_artifact(runs)


def test_commands_say_which_file_they_take_and_why(runs: Path) -> None:
    finished = lmtool("score", "the cat", cwd=runs.parent)
    assert "model: runs/tiny/model.onnx (fp32, the most exact of 2 exports; " in finished.stderr
    assert "warning" not in finished.stderr

"""Full disks and killed commands keep the old files, and leave no partial ones."""

import functools
import os
import subprocess
from pathlib import Path

import pytest
from lmtool.model import Run
from support.corpora import write_corpus
from support.faults.injection import limit_files
from support.processes.commands import TRAIN, lmtool, output_of


def test_a_full_disk_leaves_no_partial_file(project: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    finished = lmtool("export", "--onnx", cwd=project, prepare=functools.partial(limit_files, 2000))
    assert finished.returncode == 1
    assert "cannot write" in finished.stderr
    assert "Traceback" not in finished.stderr
    after = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    changed = [path for path in after if before.get(path) != after[path]]
    assert [path for path in changed if path.name != "parity.fp32.json"] == []
    data = write_corpus(tmp_path / "data", (100, 10, 10))  # its token ids fit
    finished = lmtool(
        *TRAIN, "--data", data, "--run", "run", cwd=tmp_path, prepare=functools.partial(limit_files, 6000)
    )
    assert finished.returncode == 1
    assert "latest.safetensors" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not [path for path in (tmp_path / "run").rglob("*") if ".tmp" in path.name]
    assert not Run(tmp_path / "run").latest.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_file_system_leaves_the_old_artifact(project: Path, tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(tmp_path)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let a test mount a file system")
    try:
        out = tmp_path / "model.onnx"
        output_of("export", "--onnx", "--out", out, cwd=project)
        good = out.read_bytes()
        free = os.statvfs(tmp_path)
        (tmp_path / "filler").write_bytes(b"0" * (free.f_bavail * free.f_bsize - 4096))
        finished = lmtool("export", "--onnx", "--out", out, "--opset", 18, cwd=project)
        assert finished.returncode == 1
        assert "No space left on device" in finished.stderr
        assert out.read_bytes() == good
        assert sorted(os.listdir(tmp_path)) == ["filler", "model.onnx", "parity.fp32.json"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_temporary_files_of_a_killed_export_are_ignored(project: Path) -> None:
    left = project / "runs" / "tiny" / ".model.onnx.0123abcd.tmp"
    for path in (left, left.with_suffix(".onnx")):
        path.write_bytes(b"half a file")
        assert "perplexity" in output_of("score", "the cat", cwd=project)
        path.unlink()

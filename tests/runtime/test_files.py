"""Files are replaced atomically or not at all."""

import errno
import os
from pathlib import Path

import pytest
from lmtool.runtime import StorageError
from lmtool.runtime.io.files import (
    read_bytes,
    remove_leftovers,
    staged,
    temporary_folder,
    write_atomically,
)
from lmtool.runtime.io.text_files import read_chunks, read_text


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(StorageError, match=f"cannot write .*file: {os.strerror(code)}"):
                write_atomically(path, b"new")
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["file"]


def test_an_error_inside_the_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(ZeroDivisionError), staged(path) as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_leftovers_of_one_file_go_and_nothing_else(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"whole")
    others = {
        ".file.tmp",
        ".file.0123abcd.tmp.txt",
        ".other.0123abcd.tmp",
        "file.0123abcd.tmp",
        "0123abcd.tmp",
        ".file.x.0123abcd.tmp",
    }
    for name in others:
        (tmp_path / name).touch()
    for name in (".file.0123abcd.tmp", ".file.00000000.tmp"):
        (tmp_path / name).write_bytes(b"half")
    remove_leftovers(tmp_path / "file")
    assert set(os.listdir(tmp_path)) == {"file", *others}
    remove_leftovers(tmp_path / "none" / "file")


def test_a_full_temporary_folder_is_an_error_with_a_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_folder() as folder:
        assert list(folder.iterdir()) == []
    assert not folder.exists()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(StorageError, match=r"cannot write temporary files: No such file.*TMPDIR=DIR"):
        temporary_folder().__enter__()


def test_a_folder_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="it is a folder, a file name is expected"):
        write_atomically(tmp_path, b"x")
    with pytest.raises(StorageError, match="No such file or directory"):
        write_atomically(tmp_path / "none" / "file", b"x")


SPECIAL = "it is a pipe, a device or another special file, expected a plain file"


def test_special_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(StorageError, match=f"^cannot read {path}: {SPECIAL}$"):
            read_bytes(path)
        with pytest.raises(StorageError, match=SPECIAL):
            list(read_chunks(path))
    with pytest.raises(StorageError, match=SPECIAL):
        read_text(Path("/dev/zero"))
    for read in (read_bytes, read_text):
        with pytest.raises(StorageError, match="cannot read .*folder: Is a directory"):
            read(tmp_path / "folder")
    (tmp_path / "file").write_bytes(b"plain")
    (tmp_path / "other").symlink_to("file")
    assert read_bytes(tmp_path / "other") == b"plain"

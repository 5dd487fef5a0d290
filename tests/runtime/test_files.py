"""Files are replaced atomically or not at all."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lmtool.runtime import StorageError
from lmtool.runtime.io.files import (
    decode_text,
    read_bytes,
    read_chunks,
    read_text,
    remove_leftovers,
    staged,
    temporary_folder,
    write_atomically,
)


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


def test_invalid_utf8_is_named_with_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes("caf\xe9".encode("latin1"))
    with pytest.raises(StorageError, match=r"latin1.txt is not UTF-8 text: byte 0xe9 at offset 3; convert it"):
        read_text(path)
    path.write_bytes("\ufeffthe cat".encode())
    assert read_text(path) == "the cat"
    path.write_bytes("\ufeffcaf\xe9".encode() + b"\xe9")
    with pytest.raises(StorageError, match=r"byte 0xe9 at offset 8;"):
        read_text(path)


def text_or_error(read: Callable[[], str]) -> tuple[type, str]:
    try:
        return str, read()
    except StorageError as error:
        return StorageError, str(error)


@given(st.text().map(str.encode) | st.binary(), st.integers(1, 5))
@example("\ufeff\ufeffthe 漢字😀".encode(), 1)
@example("漢字".encode()[:-1], 2)
@example(b"\xef\xbb", 1)
def test_chunks_are_the_whole_text_or_the_same_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, chunk_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "chunks.txt"
    path.write_bytes(data)
    whole = text_or_error(lambda: decode_text(data, str(path)))
    assert text_or_error(lambda: "".join(read_chunks(path, chunk_bytes))) == whole


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


def test_text_may_come_through_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("a key\n",))
    writer.start()
    assert read_text(tmp_path / "pipe") == "a key\n"
    writer.join()


def test_a_file_that_cannot_be_read_in_chunks_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*none: No such file"):
        list(read_chunks(tmp_path / "none"))

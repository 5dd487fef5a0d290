"""Folders of text: every file is read, skipped with a reason, or an error; none is ignored in silence."""

import gzip
import os
from pathlib import Path

import pytest
from lmtool.model import DataError, load_corpus
from lmtool.model.data.texts import find_texts
from lmtool.runtime import StorageError
from support.corpora import write_corpus


def lines(name: str, count: int = 10) -> bytes:
    return "".join(f"line {number} of {name}\n" for number in range(count)).encode()


def text_of(folder: Path) -> str:
    return "".join(find_texts(str(folder)).whole())


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_every_text_file_is_read_sorted_by_path(tmp_path: Path) -> None:
    names = ["a.log", "b", "chapters/1.TXT", "chapters/2.md", "chapters/deep/er/3.rst", "d.csv"]
    for name in reversed(names):
        write(tmp_path / name, lines(name))
    write(tmp_path / "e.txt.gz", gzip.compress(lines("e")))
    for hidden in (".DS_Store", ".git/config", "chapters/.2.md.swp"):
        write(tmp_path / hidden, lines("hidden"))
    assert text_of(tmp_path) == b"".join(map(lines, [*names, "e"])).decode()
    assert find_texts(str(tmp_path)).notes() == []


def test_what_is_not_read_is_listed_with_its_reason(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.txt", lines("a"))
    for number in range(5):
        write(tmp_path / "in" / "pictures" / f"{number}.png", b"\x89PNG\r\n\x1a\n\0\0")
    write(tmp_path / "in" / "report.pdf", b"%PDF-1.7\n")
    write(tmp_path / "in" / "core", b"\x7fELF\1\1\0")
    write(tmp_path / "in" / "all.tar.gz", gzip.compress(b"a.txt" + bytes(500)))
    write(tmp_path / "in" / "empty.txt", b"")
    write(tmp_path / "in" / "runs" / "mine" / "vocabulary.json", b"{}")
    (tmp_path / "in" / "runs" / "mine" / "checkpoints").mkdir()
    os.mkfifo(tmp_path / "in" / "pipe")
    (tmp_path / "in" / "loop").symlink_to(".")
    (tmp_path / "in" / "link.txt").symlink_to("a.txt")
    assert text_of(tmp_path / "in") == (lines("a") * 2).decode()
    assert sorted(find_texts(str(tmp_path / "in")).notes()) == [
        "skipped all.tar.gz, core: binary data, no text; NUL bytes can be removed, with: tr -d '\\000'",
        "skipped empty.txt: empty",
        "skipped loop: a link to a folder; read that folder itself, or a copy",
        "skipped pictures/0.png, pictures/1.png, pictures/2.png and 2 others: a picture; it holds no text",
        "skipped pipe: a pipe, a device or another special file",
        "skipped report.pdf: a PDF document; convert it, with: pdftotext",
        "skipped runs/mine: the run folder of a training",
    ]


def test_files_beside_the_splits_are_listed(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "train.txt.gz").write_bytes(gzip.compress(b"another"))
    corpus = load_corpus(str(tmp_path), "whitespace")
    expected = "skipped README.md, train.txt.gz: beside train.txt, valid.txt, test.txt nothing is read"
    assert corpus.notes[0] == expected


def test_text_that_was_meant_is_not_skipped(tmp_path: Path) -> None:
    """Text in another encoding and files that cannot be read are errors, which name the file."""
    write(tmp_path / "a.txt", lines("a"))
    path = tmp_path / "b.txt"
    for data, message in (
        ("the cat".encode("utf-16"), r"b\.txt is UTF-16 text.*iconv -f utf-16"),
        (lines("b") + b"na\xefve", r"b\.txt is not UTF-8 text: byte 0xef"),
        (gzip.compress(lines("b", 1000), mtime=0)[:-20], r"b\.txt is cut off"),
        (lines("b", 1000) + b"\0", r"b\.txt is binary data.*NUL at offset 13,890"),
    ):
        path.write_bytes(data)
        with pytest.raises(StorageError, match=message):
            text_of(tmp_path)
    path.unlink()
    path.symlink_to("none")
    with pytest.raises(StorageError, match=r"cannot read .*b\.txt: No such file"):
        find_texts(str(tmp_path))


def test_folders_without_text_say_what_they_hold(tmp_path: Path) -> None:
    write(tmp_path / "report.pdf", b"%PDF-1.7\n")
    with pytest.raises(DataError, match=r"holds no text, expected a file of UTF-8 text; skipped report\.pdf: a PDF"):
        find_texts(str(tmp_path))
    with pytest.raises(StorageError, match=r"report\.pdf is a PDF document"):
        load_corpus(str(tmp_path / "report.pdf"), "auto")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_an_unreadable_folder_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", lines("a"))
    (tmp_path / "b").mkdir(mode=0)
    with pytest.raises(StorageError, match="cannot read the folder .*b: Permission denied"):
        find_texts(str(tmp_path))

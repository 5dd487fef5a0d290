"""Text is UTF-8 with one kind of newline; what is no text is refused with the command that makes text of it."""

import gzip
import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lmtool.runtime import StorageError
from lmtool.runtime.io.text_files import decode_chunks, decode_text, read_chunks, read_head, read_text


def text_or_error(read: Callable[[], str]) -> tuple[type, str]:
    try:
        return str, read()
    except StorageError as error:
        return StorageError, str(error)


LINE_ENDS = st.text(st.sampled_from("a\r\n\ufeff\u2028\u6f22\x00"), max_size=12)


@given((LINE_ENDS | st.text()).map(str.encode) | st.binary(), st.integers(1, 5))
@example("\ufeff\ufeffthe \u6f22\u5b57\U0001f600".encode(), 1)
@example("\u6f22\u5b57".encode()[:-1], 2)
@example(b"\xef\xbb", 1)
@example(b"the\r\ncat\r\r\n", 4)
@example(b"\xff\xfea\0", 1)
@example(b"\xff\xfe", 1)
@example(b"BZh\n", 1)
@example(b"a\0\0\0", 1)
@example(b"\0a\0b", 1)
@example(b"\0a\0\0", 3)
def test_chunks_are_the_whole_text_or_the_same_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, chunk_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "chunks.txt"
    path.write_bytes(data)
    kind, whole = text_or_error(lambda: decode_text(data, str(path)))
    if not data.startswith(b"\x1f\x8b"):
        assert text_or_error(lambda: "".join(read_chunks(path, chunk_bytes))) == (kind, whole)
    if kind is str:
        assert whole == data.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


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


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("the cat".encode("utf-16"), "is UTF-16 text, expected UTF-8 text; convert it, with: iconv -f utf-16 -t utf-8"),
        (b"\xfe\xff" + "the cat".encode("utf-16-be"), "UTF-16 text.*iconv -f utf-16 -t utf-8"),
        ("the cat".encode("utf-32"), "UTF-32 text.*iconv -f utf-32 -t utf-8"),
        ("the cat".encode("utf-16-le"), r"UTF-16LE text \(NUL at offset 1\).*iconv -f utf-16le"),
        ("the cat".encode("utf-16-be"), r"UTF-16BE text \(NUL at offset 0\).*iconv -f utf-16be"),
        (gzip.compress(b"the cat", mtime=0), "compressed by gzip.*gunzip"),
        (b"PK\x03\x04...", "a ZIP archive or an office document.*pandoc"),
        (b"%PDF-1.7\n", "a PDF document.*pdftotext"),
        (b"\x89PNG\r\n\x1a\n", "a picture, expected UTF-8 text; it holds no text"),
        (b"\0\0\0\0", r"binary data, no text \(NUL at offset 0\)"),
        (b"\n\0\0\0", r"binary data, no text \(NUL at offset 1\)"),
        (b"\0a\0\0\0b", r"binary data, no text \(NUL at offset 0\)"),
        (b"the\ncat\0", r"binary data, no text \(NUL at offset 7\), expected UTF-8 text; .*tr -d"),
    ],
)
def test_what_is_no_text_is_refused_with_the_right_command(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(StorageError, match=f"^standard input is .*{message.removeprefix('is ')}"):
        decode_text(data, "standard input")
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    with pytest.raises(StorageError, match=f"text.txt is .*{message.removeprefix('is ')}"):
        read_text(path)


def test_a_nul_in_a_later_line_says_nothing_about_the_encoding() -> None:
    with pytest.raises(StorageError, match=r"^line 2 of x is binary data, no text \(NUL at offset 1\).*tr -d"):
        decode_text(b"b\0c", "line 2 of x", is_start=False)


def test_real_archives_have_these_signatures(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("text.txt", "the cat")
    with pytest.raises(StorageError, match="a ZIP archive"):
        read_text(tmp_path / "text.zip")


def test_lines_are_decoded_as_they_come() -> None:
    asked: list[bytes] = []

    def blocks() -> Iterator[bytes]:
        for block in (b"the\n", b"cat\r", b"\nsat"):
            asked.append(block)
            yield block

    chunks = decode_chunks(blocks(), "standard input")
    assert (next(chunks), len(asked)) == ("the\n", 1)
    assert "".join(chunks) == "cat\nsat"


def test_compressed_text_is_read_in_chunks(tmp_path: Path) -> None:
    path, text = tmp_path / "text.gz", "".join(f"caf\xe9 {number}\r\n" for number in range(1000)).encode()
    path.write_bytes(gzip.compress(text[:999]) + gzip.compress(text[999:]))
    assert "".join(read_chunks(path, 7)) == text.decode().replace("\r\n", "\n")
    assert read_head(path, 5) == text[:5]
    whole = gzip.compress(text)
    for data, message in (
        (whole[:-100], "is cut off: its gzip data has no end; copy it again"),
        (whole[:-8] + b"12345678", "is damaged: its gzip data is invalid .*CRC"),
        (whole[:20] + b"\xff" * 100 + whole[120:], "is damaged: its gzip data is invalid"),
        (gzip.compress(bytes(10_000_000), mtime=0), r"binary data, no text \(NUL at offset 0"),
        (gzip.compress(b"a" * 10_000_000, mtime=0), "expands to more than 200 times its size.*gunzip"),
        (gzip.compress(gzip.compress(text, mtime=0), mtime=0), "compressed by gzip"),
    ):
        path.write_bytes(data)
        with pytest.raises(StorageError, match=message):
            list(read_chunks(path))


def test_text_may_come_through_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("a key\n",))
    writer.start()
    assert read_text(tmp_path / "pipe") == "a key\n"
    writer.join()


def test_a_file_that_cannot_be_read_in_chunks_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*none: No such file"):
        list(read_chunks(tmp_path / "none"))

"""The Ray example without a cluster: parts of files, and their scores."""

import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from lmtool.runtime import Predictor, StorageError
from support.models.subwords import bpe_artifact

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray"


@pytest.fixture(scope="module")
def parts() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        yield importlib.import_module("parts")


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


TEXTS = [b"", b"\n", b"a", b"a\n", b"\n\na\r\n\nbc\n\n", b"abc\ndefghij\nk", "\ufeff\u00e9t\u00e9\n\u4e2d\n".encode()]


@pytest.mark.parametrize("data", [*TEXTS, b"x" * 300_000 + b"\ny\n" + b"z" * 200_000])
def test_each_line_is_in_one_part_wherever_a_file_is_cut(parts: ModuleType, tmp_path: Path, data: bytes) -> None:
    write(tmp_path / "text", data)
    expected = data.decode().removeprefix("\ufeff").removesuffix("\n").replace("\r\n", "\n").split("\n") if data else []
    for size in range(1, len(data) + 2) if len(data) < 100 else (7_000, 65_536, 299_999, 300_000, 300_001, 300_002):
        all_parts = parts.find_parts(tmp_path, "*", size)
        read = [line for part in all_parts for line in parts.read_lines(part, tmp_path)]
        assert [text for _, text in read] == expected
        assert [offset for offset, _ in read] == [0, *np.cumsum([len(row) for row in data.splitlines(True)])][
            : len(read)
        ]
        assert all(part.end - part.start <= size for part in all_parts)


def test_parts_cover_every_matching_file(parts: ModuleType, tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.txt", "a/d.log", ".hidden/e.txt", "a/.f.txt", "empty.txt"):
        write(tmp_path / name, b"" if name == "empty.txt" else b"0123456789")
    assert [(part.file, part.start, part.end) for part in parts.find_parts(tmp_path, "*.txt", 6)] == [
        ("a/c.txt", 0, 6),
        ("a/c.txt", 6, 10),
        ("b.txt", 0, 6),
        ("b.txt", 6, 10),
    ]
    assert {part.file for part in parts.find_parts(tmp_path, "*", 100)} == {"a/c.txt", "a/d.log", "b.txt"}
    with pytest.raises(StorageError, match=r"holds no file like '\*.md'"):
        parts.find_parts(tmp_path, "*.md", 6)


def test_errors_for_unreadable_files(parts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "text", b"good\nbad \xff\n")
    (part,) = parts.find_parts(tmp_path, "*", 100)
    with pytest.raises(StorageError, match=r"text is not UTF-8 text: byte 0xff at offset 9; convert it"):
        list(parts.read_lines(part, tmp_path))
    write(tmp_path / "utf16" / "text", "good\n".encode("utf-16"))
    (in_utf16,) = parts.find_parts(tmp_path / "utf16", "*", 100)
    with pytest.raises(StorageError, match=r"text is UTF-16 text, .* iconv -f utf-16 -t utf-8"):
        list(parts.read_lines(in_utf16, tmp_path / "utf16"))
    path.write_bytes(b"good\nbad \xc3\xa9 and more\n")
    with pytest.raises(StorageError, match="was changed while it was being scored"):
        list(parts.read_lines(part, tmp_path))
    monkeypatch.setattr(parts, "LONGEST_LINE_BYTES", 10)
    with pytest.raises(StorageError, match="has a line of more than 10 bytes at offset 5"):
        list(parts.read_lines(part, tmp_path))
    path.unlink()
    with pytest.raises(StorageError, match=r"cannot read .*text: No such file"):
        list(parts.read_lines(part, tmp_path))


def test_a_score_is_kept_for_the_same_part_and_model_only(
    parts: ModuleType, predictor: Predictor, tmp_path: Path
) -> None:
    path = write(tmp_path / "in" / "a" / "text", b"the cat\na dog\n" * 2000)
    out = tmp_path / "out"
    (part,) = parts.find_parts(tmp_path / "in", "*", 1 << 20)
    assert parts.kept_score(part, out, "model") is None
    score = parts.score_part(predictor, part, tmp_path / "in", out, "model")
    assert (score.lines, score.tokens) == (4000, 8000)
    records = [json.loads(row) for row in part.result(out).read_text().splitlines()[1:]]
    assert [(record["offset"], record["log_prob"]) for record in records[-2:]] == [
        (offset, predictor.score(text).log_prob) for offset, text in ((27986, "the cat"), (27994, "a dog"))
    ]
    assert parts.kept_score(part, out, "model") == score
    assert parts.kept_score(part, out, "another") is None
    os.utime(path, ns=(1, 1))
    (touched,) = parts.find_parts(tmp_path / "in", "*", 1 << 20)
    assert parts.kept_score(touched, out, "model") is None
    for content in (b"", b"{}\n", b"[]\n", b'{"part": 3}\n', b"\xff\n", part.result(out).read_bytes()[:90]):
        part.result(out).write_bytes(content)
        assert parts.kept_score(part, out, "model") is None


def test_lines_of_any_text_are_scored_by_parts_of_words(parts: ModuleType, tmp_path: Path) -> None:
    predictor = Predictor.load(bpe_artifact())
    lines = ["The cat, don't", "", "caf\u00e9 \u65e5\U0001f600 \u05e9\u05dc\u05d5\u05dd e\u0301", "x" * 999]
    write(tmp_path / "in" / "text", "\n".join(lines).encode())
    (part,) = parts.find_parts(tmp_path / "in", "*", 1 << 20)
    score = parts.score_part(predictor, part, tmp_path / "in", tmp_path / "out", "model")
    records = [json.loads(row) for row in part.result(tmp_path / "out").read_text().splitlines()[1:]]
    assert [record["log_prob"] for record in records] == [predictor.score(line).log_prob for line in lines]
    assert (score.unknown, score.tokens) == (0, sum(map(len, map(predictor.vocabulary.encode, lines))))


def test_scores_of_other_part_sizes_are_removed(parts: ModuleType, tmp_path: Path) -> None:
    write(tmp_path / "in" / "text", b"0123456789")
    out = tmp_path / "out"
    for part in parts.find_parts(tmp_path / "in", "*", 2):
        write(part.result(out), b"")
    write(out / "text" / ".000000000000004.jsonl.0123abcd.tmp", b"{")  # left by a killed worker
    other = write(out / "other" / "000000000000001.jsonl", b"")
    parts.remove_others(parts.find_parts(tmp_path / "in", "*", 4), out)
    kept = sorted(path.name for path in (out / "text").iterdir())
    assert kept == ["000000000000000.jsonl", "000000000000004.jsonl", "000000000000008.jsonl"]
    assert other.exists()

"""Token ids of texts of any size: chunks give the same ids as the whole text, within constant memory."""

import hashlib
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmtool.model import Corpus, load_corpus, read_splits
from lmtool.model.data.corpus import build_vocabulary
from lmtool.model.data.texts import find_texts
from lmtool.model.data.token_ids import token_file
from lmtool.runtime import RULES, StorageError, Tokenization, Vocabulary
from lmtool.runtime.io.text_files import read_text
from support.corpora import whole, write_corpus

TEXTS = st.text(st.sampled_from("ab Σé漢😀'.\n\r\t\ufeff\u2028"), max_size=60) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=20
)
MEGABYTE = 1_000_000


def encode_in_chunks(folder: Path, rule: str, chunk_bytes: int) -> Corpus:
    """`load_corpus` with small chunks, for texts of any content."""
    tokenization = Tokenization.of_rule(rule)
    with token_file(find_texts(str(folder), chunk_bytes).splits(), tokenization) as texts:
        vocabulary = build_vocabulary(texts.counts(), tokenization, 1)
        return Corpus(str(folder), texts.sha256, vocabulary, texts.to_ids(vocabulary))


def expected_vocabulary(text: str, tokenization: Tokenization) -> list[str]:
    tokens = tokenization.split(text)
    return sorted({*tokens, *tokenization.required}, key=lambda token: (-tokens.count(token), token))


@pytest.mark.parametrize("rule", RULES)
@given(texts=st.tuples(TEXTS, TEXTS, TEXTS), chunk_bytes=st.integers(1, 9))
def test_chunks_give_the_same_ids_as_the_whole_text(
    tmp_path_factory: pytest.TempPathFactory, rule: str, texts: tuple[str, str, str], chunk_bytes: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "in-chunks"
    folder.mkdir(exist_ok=True)
    paths = {split: folder / f"{split}.txt" for split in ("train", "valid", "test")}
    for path, text in zip(paths.values(), texts, strict=True):
        path.write_bytes(text.encode())
    corpus = encode_in_chunks(folder, rule, chunk_bytes)
    read = {split: read_text(path) for split, path in paths.items()}
    assert list(corpus.vocabulary.tokens) == expected_vocabulary(read["train"], Tokenization.of_rule(rule))
    for split, text in read.items():
        assert corpus.ids[split].tolist() == corpus.vocabulary.encode(text)
    digests = [hashlib.sha256(text.encode()).digest() for text in read.values()]
    assert corpus.sha256 == hashlib.sha256(b"".join(digests)).hexdigest()


def is_more_than_white_space(texts: list[str]) -> bool:
    """Whether files of these texts hold something to read; a byte-order mark is dropped."""
    return bool("".join(text.removeprefix("\ufeff") for text in texts).strip())


@given(
    texts=st.lists(TEXTS.filter(bool), min_size=3, max_size=5).filter(is_more_than_white_space),
    chunk_bytes=st.integers(1, 9),
)
def test_chunks_give_the_same_splits_as_the_whole_text(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], chunk_bytes: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "by-lines"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for number, text in enumerate(texts):
        (folder / f"{number}.md").write_bytes(text.encode())
    lines = "\n".join(read_text(path).rstrip("\n") for path in sorted(folder.iterdir())).split("\n")
    held_out = max(len(lines) // 20, 1)
    parts = lines[: -2 * held_out], lines[-2 * held_out : -held_out], lines[-held_out:]
    texts = find_texts(str(folder), chunk_bytes).splits()
    assert list(whole(texts).values()) == ["\n".join(part) + "\n" for part in parts]


def test_a_text_can_be_read_twice(tmp_path: Path) -> None:
    write_corpus(tmp_path / "files")
    (tmp_path / "notes.txt").write_text("one\ntwo\nthree\n")
    for folder in (tmp_path / "files", tmp_path):
        texts = read_splits(str(folder))
        assert whole(texts) == whole(texts)


def test_ids_are_mapped_read_only(tmp_path: Path) -> None:
    corpus = load_corpus(str(write_corpus(tmp_path)), "whitespace")
    assert corpus.ids["train"].dtype == np.int32
    with pytest.raises(ValueError, match="read-only"):
        corpus.ids["train"][0] = 1


def test_error_for_a_full_disk_names_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> IO[bytes]:
        return Path("/dev/full").open("w+b")

    folder = str(write_corpus(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(StorageError, match=r"to a temporary file: No space left on device; .* TMPDIR=DIR"):
        load_corpus(folder, "whitespace")


def test_counting_copies_one_block_at_a_time() -> None:
    vocabulary = Vocabulary(["<eos>", "<unk>", "the"], Tokenization.of_rule("whitespace"))
    ids = np.ones(8 * MEGABYTE, np.int32)
    corpus = Corpus("ones", "", vocabulary, {"train": ids, "test": ids})
    tracemalloc.start()
    try:
        assert corpus.count_unknown("test") == len(ids)
        assert corpus.unigram_perplexity("test") == pytest.approx(1.0, rel=1e-6)
        in_blocks = tracemalloc.get_traced_memory()[1]
        np.bincount(ids)
        at_once = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert in_blocks < 4 * MEGABYTE
    assert at_once >= 64 * MEGABYTE


def peak_bytes(statement: str) -> int:
    """Peak of the resident memory of a process that runs `statement`."""
    code = f"import lmtool.model, lmtool.bench.environment as memory\n{statement}\nprint(memory.peak_bytes())"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def write_text(folder: Path, megabytes: int) -> Path:
    """Half of the training text is lines, the other half is one line."""
    words = "the market of " + "counterrevolutionary internationalization " * 6  # long words are read fast
    half = megabytes * MEGABYTE // 2 // len(words)
    write_corpus(folder)
    (folder / "train.txt").write_text(f"{words}\n" * half + f"{words} " * half)
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    small, large = write_text(tmp_path / "small", 8), write_text(tmp_path / "large", 64)
    load = "lmtool.model.load_corpus({!r}, 'whitespace')"
    base = peak_bytes(load.format(str(small)))
    assert peak_bytes(load.format(str(large))) - base < 8 * MEGABYTE
    read = "from pathlib import Path; from lmtool.runtime.io.text_files import read_text; read_text(Path({!r}))"
    assert peak_bytes(read.format(str(large / "train.txt"))) - base > 64 * MEGABYTE

"""Corpora: several kinds of folders, the embedded corpus, and errors."""

import errno
import gzip
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from lmtool.model import Corpus, DataError, load_corpus, load_corpus_with, read_splits, write_splits
from lmtool.model.data.corpus import build_vocabulary
from lmtool.runtime import OptionError, StorageError, Tokenization
from support.corpora import real_corpus, whole, write_corpus


def write(folder: Path, **texts: str) -> str:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    return str(folder)


def test_ids_are_ordered_by_count_then_alphabetically(tmp_path: Path) -> None:
    folder = write(tmp_path, train="b a c a\nb a\n", valid="a d\n", test="c b\n")
    corpus = load_corpus(folder, "whitespace")
    assert corpus.vocabulary.tokens == ("a", "<eos>", "b", "c", "<unk>")
    assert corpus.ids["train"].tolist() == [2, 0, 3, 0, 1, 2, 0, 1]
    assert corpus.ids["valid"].tolist() == [0, 4, 1]
    assert corpus.ids["test"].dtype == np.int32


def test_rare_tokens_count_as_the_unknown_token() -> None:
    vocabulary = build_vocabulary(
        Counter({"a": 3, "b": 3, "c": 1, "d": 1, "e": 1, "f": 1}), Tokenization.of_rule("whitespace"), min_count=2
    )
    assert vocabulary.tokens == ("<unk>", "a", "b", "<eos>")


def test_corpus_of_characters(tmp_path: Path) -> None:
    corpus = load_corpus(write(tmp_path, train="abba\n", valid="ab", test="xa"), "characters")
    assert corpus.vocabulary.tokens == ("a", "b", "\n", "\ufffd")
    assert corpus.ids["test"].tolist() == [3, 0]


@pytest.mark.parametrize("pattern", ["{}.txt", "ptb.{}.txt", "wiki.{}.tokens"])
def test_the_usual_file_names_are_found(tmp_path: Path, pattern: str) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / pattern.format(split)).write_text(f"{split} text\n")
    assert whole(read_splits(str(tmp_path))) == {split: f"{split} text\n" for split in ("train", "valid", "test")}


def test_line_ends_compression_and_a_byte_order_mark_leave_a_corpus_the_same(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "lf")
    expected = load_corpus(str(folder), "words")
    for end in ("\r\n", "\r"):
        other = tmp_path / repr(end)
        other.mkdir()
        for path in folder.iterdir():
            data = "\ufeff" + path.read_text().replace("\n", end)
            (other / f"{path.name}.gz").write_bytes(gzip.compress(data.encode()))
        corpus = load_corpus(str(other), "words")
        assert (corpus.sha256, corpus.vocabulary.tokens) == (expected.sha256, expected.vocabulary.tokens)
        assert corpus.ids["train"].tolist() == expected.ids["train"].tolist()


def test_a_file_is_a_corpus_and_is_evaluated_whole(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    name = str(tmp_path / "train.txt")
    texts = whole(read_splits(name))
    assert "".join(texts.values()) == (tmp_path / "train.txt").read_text()
    assert [text.count("\n") for text in texts.values()] == [360, 20, 20]
    corpus = load_corpus(name, "auto")
    evaluated = load_corpus_with(name, corpus.vocabulary, whole=True)
    assert evaluated.split("all").tolist() == corpus.split("all").tolist()
    assert list(evaluated.ids) == ["all"]
    (tmp_path / "test.txt").write_text("the cat")
    assert len(load_corpus_with(str(tmp_path / "test.txt"), corpus.vocabulary, whole=True).split("all")) == 2
    divided = load_corpus_with(str(tmp_path), corpus.vocabulary)
    joined = load_corpus_with(str(tmp_path), corpus.vocabulary, whole=True).split("all").tolist()
    assert joined == [*divided.split("all").tolist(), corpus.vocabulary.end_of_sentence_id]


def test_written_splits_are_the_read_ones(tmp_path: Path) -> None:
    texts = read_splits(str(write_corpus(tmp_path / "in")))
    out = tmp_path / "new" / "out"
    assert write_splits(texts, out) == {split: (out / f"{split}.txt").stat().st_size for split in texts}
    assert whole(read_splits(str(out))) == whole(texts)
    with pytest.raises(StorageError, match=r"train.txt is there already; choose another folder"):
        write_splits({**texts, "train": "other"}, out)
    assert whole(read_splits(str(out))) == whole(texts)


def test_an_unreadable_text_writes_no_split(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "in")
    (folder / "valid.txt").write_bytes(b"na\xefve\n")
    with pytest.raises(StorageError, match=r"valid\.txt is not UTF-8 text: byte 0xef at offset 2"):
        write_splits(read_splits(str(folder)), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_failed_rename_leaves_no_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, out, replace = read_splits(str(write_corpus(tmp_path / "in"))), tmp_path / "out", Path.replace

    def replace_all_but_train(self: Path, target: Path) -> Path:
        if target.name == "train.txt":
            raise OSError(errno.EIO, "Input/output error")
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace_all_but_train)
        with pytest.raises(StorageError, match=r"cannot write .*train\.txt: Input/output error"):
            write_splits(texts, out)
    assert list(out.iterdir()) == []
    assert set(write_splits(texts, out)) == {"train", "valid", "test"}


@pytest.mark.parametrize(
    ("text", "min_count", "message"),
    [
        ("", 3, "text.txt is empty, expected lines of text$"),
        ("a b\nb a\na b\n", 9, "holds no token seen 9 times or more; .*; keep rarer ones: --set min_count=1$"),
        ("a a\na a\na a\n", 9, "holds no token seen 9 times or more; expected at least two different ones$"),
        ("a\n" * 9, 3, "holds only the token 'a'; expected at least two different ones$"),
        (" \n\n\n\na\n", 3, "the training text of .* is empty or white space, expected lines of text$"),
    ],
)
def test_advice_fits_what_a_file_lacks(tmp_path: Path, text: str, min_count: int, message: str) -> None:
    (tmp_path / "text.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        load_corpus(str(tmp_path / "text.txt"), "whitespace", min_count)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({}, "holds no text, expected a file of UTF-8 text"),
        ({"train": "a b"}, r"holds train.txt but not valid.txt, test.txt; all three.* or name one file .*train.txt$"),
        ({"train": "", "valid": "a b", "test": "a b"}, "training text of .* is empty or white space"),
        ({"train": "a a\na", "valid": "a b", "test": "a b"}, "holds only the token 'a'; expected at least two"),
        ({"train": "a b", "valid": "", "test": "a b"}, "the valid text of .* holds 0 tokens, expected at least 2"),
        ({"notes": "one line"}, "holds 1 line of text, expected 3 or more"),
        ({"notes": " \n\t\n\n\n"}, "holds nothing but white space, expected lines of text"),
    ],
)
def test_errors_for_unusable_folders(tmp_path: Path, texts: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_corpus(write(tmp_path, **texts), "whitespace")


def test_errors_for_a_missing_folder_and_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file or folder .*; expected 'pydocs', a text file or a folder"):
        load_corpus(str(tmp_path / "none"), "whitespace")
    corpus = load_corpus(str(write_corpus(tmp_path)), "whitespace")
    with pytest.raises(OptionError, match="no split 'dev', expected one of train, valid, test, all"):
        corpus.split("dev")


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path)
    (folder / "valid.txt").write_bytes(b"na\xefve\n")
    with pytest.raises(StorageError, match=r"valid\.txt is not UTF-8"):
        load_corpus(str(folder), "whitespace")


def test_hash_depends_on_the_texts(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path)
    first = load_corpus(str(folder), "whitespace")
    assert load_corpus_with(str(folder), first.vocabulary).sha256 == first.sha256
    (folder / "test.txt").write_text("another text\n")
    assert load_corpus(str(folder), "whitespace").sha256 != first.sha256


def test_unigram_perplexity_by_hand(tmp_path: Path) -> None:
    corpus = load_corpus(write(tmp_path, train="a a b", valid="a b", test="a b b"), "whitespace")
    total = 3 + len(corpus.vocabulary)
    assert corpus.unigram_perplexity("test") == pytest.approx(total / 2)


def test_penn_treebank_is_read_as_by_its_reader() -> None:
    corpus: Corpus = load_corpus(str(real_corpus("ptb")), "auto")
    assert [len(corpus.ids[split]) for split in ("train", "valid", "test")] == [929_589, 73_760, 82_430]
    assert len(corpus.vocabulary) == 10_000
    assert corpus.ids["train"][:8].tolist() == [9970, 9971, 9972, 9974, 9975, 9976, 9980, 9981]


def test_shakespeare_characters_round_trip() -> None:
    folder = real_corpus("shakespeare")
    corpus = load_corpus(str(folder), "characters")
    assert len(corpus.vocabulary) == 66  # 65 and the unknown one
    assert corpus.vocabulary.decode(corpus.ids["test"].tolist()) == (folder / "test.txt").read_text()


def test_pydocs_is_english_prose_in_three_disjoint_splits() -> None:
    texts = whole(read_splits("pydocs"))
    corpus = load_corpus("pydocs", "auto")
    sentences = {split: set(text.splitlines()) for split, text in texts.items()}
    assert not sentences["train"] & (sentences["valid"] | sentences["test"])
    assert not sentences["valid"] & sentences["test"]
    assert len(corpus.ids["train"]) > 200_000
    # Where a distribution splits Python's library into packages there is less of it.
    assert min(len(corpus.ids["valid"]), len(corpus.ids["test"])) > 10_000
    assert {" the", " a", "Return", ".", ","} <= {corpus.vocabulary.text(token_id) for token_id in range(100)}
    digests = [hashlib.sha256(text.encode()).digest() for text in texts.values()]
    assert corpus.sha256 == hashlib.sha256(b"".join(digests)).hexdigest()  # a second reading gives the same

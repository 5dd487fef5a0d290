"""Lines of the valid and test text that the training text holds too."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmtool.model import load_corpus
from lmtool.model.data import repeats
from lmtool.model.data.corpus import load_corpus_with
from lmtool.model.data.repeats import line_hashes, repeated_shares
from numpy.typing import NDArray

NEWLINE = 0
NUMBERS = st.lists(st.integers(0, 2), max_size=60)


def blocks(numbers: list[int], size: int) -> list[NDArray[np.int32]]:
    ids = np.array(numbers, np.int32)
    return [ids[at : at + size] for at in range(0, len(ids), size)]


def lines_of(numbers: list[int], fewest: int) -> list[str]:
    lines = "".join(map(str, numbers)).split(str(NEWLINE))
    return [line for line in lines[: len(lines) - (lines[-1] == "")] if len(line) >= fewest]


@given(NUMBERS, NUMBERS, st.integers(1, 7), st.integers(1, 3))
def test_the_share_is_that_of_equal_lines(training: list[int], held_out: list[int], size: int, fewest: int) -> None:
    share = repeated_shares(blocks(training, size), {"test": blocks(held_out, size)}, NEWLINE, fewest)["test"]
    lines, known = lines_of(held_out, fewest), lines_of(training, fewest)
    found = sum(len(line) for line in lines if line in known)
    assert share == pytest.approx(found / max(sum(map(len, lines)), 1))


def test_very_many_lines_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_MOST_HASHES", 1000)
    rng = np.random.default_rng(1)
    known, other = (rng.integers(1, 1000, (20_000, width), dtype=np.int32) for width in (16, 6))
    known[:, -1] = other[:, -1] = NEWLINE
    text = np.concatenate([known.ravel(), other.ravel()])
    share = repeated_shares([known.ravel()], {"test": [text]}, NEWLINE, 5)["test"]
    assert share == pytest.approx(0.75, abs=0.06)  # 15 of 20 tokens, though half of the lines
    assert len({int(value) for hashes, _ in line_hashes([text], NEWLINE, 5) for value in hashes}) == 40_000


def test_many_repeated_lines_are_pointed_out(tmp_path: Path) -> None:
    unique = [f"the number {number} stands in line {number}\n" for number in range(300)]
    for repeated, noted in ((1, False), (10, True)):
        (tmp_path / "train.txt").write_text("".join(unique[:100]))
        (tmp_path / "valid.txt").write_text("".join(unique[100:120]) + "the end\n" * 20)
        (tmp_path / "test.txt").write_text("".join(unique[:repeated] + unique[200 : 220 - repeated]))
        corpus = load_corpus(str(tmp_path), "whitespace")
        with_vocabulary = load_corpus_with(str(tmp_path), corpus.vocabulary, to_train=True)
        for notes in (corpus.notes, with_vocabulary.notes):
            known = "50% of the tokens in longer lines of test are in lines of the training text too"
            assert any(known in note for note in notes) == noted
            assert len(notes) == noted
        assert load_corpus_with(str(tmp_path), corpus.vocabulary).notes == ()


def test_repeated_headings_are_not_pointed_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for split in ("train", "valid", "test"):
        bodies = [" ".join(f"w{word}" for word in rng.permutation(100)) for _ in range(50)]
        (tmp_path / f"{split}.txt").write_text("".join(f"= = Life and career = =\n{body}\n" for body in bodies))
    assert load_corpus(str(tmp_path), "whitespace").notes == ()

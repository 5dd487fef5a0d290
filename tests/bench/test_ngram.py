"""The n-gram of the study of typing: logarithms by hand, and suggestions by the rules of `Autocompletion`."""

from pathlib import Path

import keyboard
import numpy as np
import pytest
from common.kenlm_model import kenlm_words
from lmtool.model import Run
from lmtool.runtime import Tokenization, Vocabulary
from ngram import Ngram, NgramSuggester

ARPA = """\\data\\
ngram 1=7
ngram 2=4
ngram 3=1

\\1-grams:
-3\t<unk>\t0
0\t<s>\t-0.5
-0.9\t</s>\t0
-2\t<unknown>\t0
-0.6\tthe\t-0.3
-0.8\tcat\t-0.2
-1.1\tcar\t0

\\2-grams:
-0.2\t<s> the\t-0.1
-0.4\tthe car\t0
-0.7\tthe cat\t-0.6
-0.5\tcat </s>\t0

\\3-grams:
-0.05\t<s> the cat

\\end\\
"""
WORDS = ["<unk>", "<eos>", "the", "cat", "car"]
START = len(WORDS)


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(WORDS, Tokenization.of_rule("words-2"))


@pytest.fixture
def model(tmp_path: Path, vocabulary: Vocabulary) -> Ngram:
    path = tmp_path / "model.arpa"
    path.write_text(ARPA)
    return Ngram(path, vocabulary)


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ([], [-2, -0.9, -0.6, -0.8, -1.1]),
        ([START], [-2.5, -1.4, -0.2, -1.3, -1.6]),
        ([4], [-2, -0.9, -0.6, -0.8, -1.1]),  # seen, followed by nothing
        ([START, 2], [-2.4, -1.3, -1.0, -0.05, -0.5]),  # -0.3 - 0.1; car: -0.4 - 0.1
        ([3, 2], [-2.3, -1.2, -0.9, -0.7, -0.4]),  # "cat the" was not seen
        ([2, 3], [-2.8, -1.1, -1.4, -1.6, -1.9]),  # -0.2 - 0.6; the end: -0.5 - 0.6
        ([0], [-2, -0.9, -0.6, -0.8, -1.1]),
    ],
)
def test_logarithms_are_those_of_backing_off(model: Ngram, context: list[int], expected: list[float]) -> None:
    np.testing.assert_allclose(model.log_probs(context), expected, atol=1e-6)


def test_suggestions_complete_words_and_follow_them(model: Ngram, vocabulary: Vocabulary) -> None:
    suggester = NgramSuggester(model, vocabulary, 3)
    assert [entry.text for entry in suggester.suggestions("")] == ["the", "cat", "car"]
    assert [entry.text for entry in suggester.suggestions("the ")] == ["cat", "car", "the"]
    rests = suggester.suggestions("The C")
    assert [(entry.text, entry.start) for entry in rests] == [("Cat", -1), ("Car", -1)]
    assert [entry.probability for entry in rests] == pytest.approx([1 / (1 + 10**-0.45), 1 / (1 + 10**0.45)])
    assert [entry.text for entry in suggester.suggestions("the")] == [" cat", " car", " the"]
    assert suggester.suggestions("zz") == []


def test_a_network_and_an_ngram_type_the_same_text(
    run: Run, corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = kenlm_words(run.vocabulary())
    rows = "".join(f"-{1 + index / 10:.1f}\t{word}\t0\n" for index, word in enumerate(words))
    (tmp_path / "ranked.arpa").write_text(f"\\data\\\n\n\\1-grams:\n{rows}\n\\end\\\n")
    monkeypatch.setitem(keyboard.NGRAMS, "ranked", keyboard.Grams("ranked", 1))
    network, ngram = (
        keyboard.figures_of(name, run.path, tmp_path, str(corpus_folder), 20, False)
        for name in ("lmtool int8", "ranked")
    )
    assert (ngram["letters"], ngram["words"]) == (network["letters"], network["words"])
    assert 0 < ngram["keystrokes_saved"] < network["keystrokes_saved"]

"""The studies of rescoring: what is spoken is written again, and the error rates have honest intervals."""

import numpy as np
import pytest
from nbest_lists import is_spoken, spoken, written
from rescoring import interval


@pytest.mark.parametrize(
    ("tokens", "text", "heard"),
    [
        ("mr. smith does n't know", "mr. smith doesn't know", "mister smith doesn't know"),
        ("the u.s. 's viewers ' opinions", "the u.s.'s viewers' opinions", "the u. s. s. viewers' opinions"),
        ("it 's a t.v. we 've seen", "it's a t.v. we've seen", "it's a t. v. we've seen"),
        ("i ca n't", "i can't", "i can't"),
    ],
)
def test_what_was_heard_is_written_as_the_treebank_writes(tokens: str, text: str, heard: str) -> None:
    assert spoken(tokens.split()) == text
    assert written(heard) == tokens.replace("u.s. 's", "u.s.s.")


@pytest.mark.parametrize(
    ("sentence", "kept"),
    [
        ("the cat saw mr. fish", True),
        ("the cat saw", False),
        ("the <unk> saw the cat", False),
        ("the N cats saw it", False),
        ("a well-known cat saw it", False),
        ("the cat saw $ it", False),
    ],
)
def test_sentences_that_cannot_be_spoken_are_left_out(sentence: str, kept: bool) -> None:
    assert is_spoken(sentence.split()) == kept


def test_intervals_hold_the_rate_and_shrink_with_more_utterances() -> None:
    draw = np.random.default_rng(1)
    widths = []
    for count in (30, 300):
        words = draw.integers(5, 20, count)
        errors = draw.binomial(words, 0.2)
        low, high = (float(each.rstrip("%")) for each in interval(errors, words).split(" to "))
        assert low < 100 * errors.sum() / words.sum() < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2

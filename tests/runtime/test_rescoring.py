"""Rescoring: the log-probabilities of texts alone to the bit, common beginnings read once; tuned weights."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import ArgumentError, Hypothesis, NumberError, OptionError, Predictor, Rescorer
from lmtool.runtime.rescoring import prefix_scorer
from lmtool.runtime.rescoring.tuning import JudgedList, errors_with, tune
from support.corpora import sentences
from support.models.networks import artifact_of, network_of
from support.models.subwords import bpe_artifact

TEXTS = [
    *("", "the", "the cat", "the cat saw", "the cat saw a dog", "the cat saw a fish", "the cat saw a dog", "The Cat"),
    *("zebra", "zebras saw the", "zebu saw the", "a " * 200, "the cat " * 40, " the cat ", "the\ncat", "\u00e9"),
    *sentences(150, seed=6).splitlines(),
]


def assert_as_alone(predictor: Predictor, texts: Sequence[str]) -> None:
    assert predictor.batches_are_exact
    assert Rescorer(predictor).log_probs(texts) == [predictor.score(f"{text}\n").log_prob for text in texts]


def count_rows(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list to which every later call appends its rows."""
    rows: list[int] = []
    run = predictor.network.run_rows

    def counted(token_ids: Any, tensors: Any) -> Any:
        rows.append(len(token_ids))
        return run(token_ids, tensors)

    monkeypatch.setattr(predictor.network, "run_rows", counted)
    return rows


def test_log_probs_are_those_of_the_texts_alone(predictor: Predictor, int8_predictor: Predictor) -> None:
    texts = random.Random(0).sample(TEXTS, len(TEXTS))
    assert_as_alone(predictor, texts)
    assert_as_alone(int8_predictor, texts)
    assert Rescorer(predictor).log_probs([]) == []


def test_log_probs_of_characters_and_parts_of_words_are_those_of_the_texts_alone() -> None:
    tokens = ["\n", "\ufffd", *"abcdefghijklmnopqrstuvwxyz "]
    network = network_of((7, 3), vocabulary=len(tokens))
    assert_as_alone(Predictor.load(artifact_of(network, tokens, "characters")), TEXTS)
    assert_as_alone(Predictor.load(bpe_artifact()), [*TEXTS, "the  cat\U0001f600", "the  cat\U0001f601"])


def test_log_probs_of_wide_networks_are_those_of_the_texts_alone() -> None:
    words = ["<eos>", "<unk>", *sorted({word for text in TEXTS for word in text.split()}), *map(str, range(3000))]
    predictor = Predictor.load(artifact_of(network_of((96, 48), vocabulary=len(words)), words, "whitespace"))
    wide = [" ".join(map(str, pair)) for pair in itertools.product(range(9), range(17))]
    assert_as_alone(predictor, [*TEXTS, *wide])


def test_common_beginnings_are_read_once(own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["the", "cat", "saw", "a"]
    texts = [" ".join([*words, last]) for last in ("dog", "fish", "house", "market")] * 3
    rescorer = Rescorer(own_predictor)
    rescorer.log_probs(texts)  # measures
    rows = count_rows(own_predictor, monkeypatch)
    rescorer.log_probs(texts)
    assert rows == [1, 1, 1, 1, 1, 4]


def test_many_texts_are_read_in_windows(own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    rescorer = Rescorer(own_predictor)
    together = rescorer.log_probs(TEXTS)
    rows = count_rows(own_predictor, monkeypatch)
    monkeypatch.setattr(prefix_scorer, "WINDOW_TEXTS", 7)
    assert rescorer.log_probs(TEXTS) == together
    assert max(rows) == 8  # 7 are padded
    rows.clear()
    monkeypatch.setattr(prefix_scorer, "WINDOW_CHARACTERS", 1)
    assert rescorer.log_probs(TEXTS[1:]) == together[1:]
    assert rows == []


def test_texts_are_scored_alone_where_batches_change_numbers(dynamic_int8_path: Any) -> None:
    predictor = Predictor.load(dynamic_int8_path)
    assert not predictor.batches_are_exact
    expected = [predictor.score(f"{text}\n").log_prob for text in TEXTS[:9]]
    assert Rescorer(predictor).log_probs(TEXTS[:9]) == expected


@pytest.mark.parametrize("rows", [1, 2, 4, 8, 16, 32, 64])
def test_texts_are_scored_alone_where_a_batch_size_is_measured_to_change_numbers(
    own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    run = own_predictor.network.run_rows

    def depends_on_neighbours(token_ids: Any, tensors: Any) -> Any:
        logits, state = run(token_ids, tensors)
        return (logits + (np.arange(logits.shape[2]) == 5) if len(token_ids) == rows else logits), state

    monkeypatch.setattr(own_predictor.network, "run_rows", depends_on_neighbours)
    assert_as_alone(own_predictor, TEXTS[:20])


def test_the_best_comes_first(predictor: Predictor) -> None:
    nbest = [Hypothesis("the cat", -2.5), Hypothesis("the", -2.0), Hypothesis("a dog saw", -2.25)]
    by_bonus = Rescorer(predictor, weight=0, word_bonus=1).rescore(nbest)
    assert by_bonus == [Hypothesis("a dog saw", 0.75), Hypothesis("the cat", -0.5), Hypothesis("the", -1.0)]
    by_both = {each.text: each.score for each in Rescorer(predictor, weight=0.5, word_bonus=0.25).rescore(nbest)}
    assert by_both == {
        each.text: each.score + 0.5 * predictor.score(f"{each.text}\n").log_prob + 0.25 * each.words for each in nbest
    }
    equal = [Hypothesis("b", 1), Hypothesis("a", 1), Hypothesis("b", 1)]
    assert Rescorer(predictor, weight=0).rescore(equal) == equal
    assert Rescorer(predictor).rescore([]) == []


def test_lists_together_are_as_one_by_one(predictor: Predictor) -> None:
    lists = [[Hypothesis(text, float(len(text))) for text in TEXTS[start : start + 9]] for start in range(0, 60, 9)]
    lists[2] = []
    rescorer = Rescorer(predictor)
    assert list(rescorer.rescore_all(lists)) == [rescorer.rescore(each) for each in lists]


def test_lists_before_a_wrong_one_are_rescored(own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    rescorer = Rescorer(own_predictor)
    rescorer.log_probs(["the", "a"])  # measures
    run, fish = own_predictor.network.run_rows, own_predictor.vocabulary.id("fish")

    def fails(token_ids: Any, tensors: Any) -> Any:
        if fish in token_ids:
            raise NumberError("NaN")
        return run(token_ids, tensors)

    monkeypatch.setattr(own_predictor.network, "run_rows", fails)
    lists = [[Hypothesis("the cat", 0), Hypothesis("a dog", 0)], [Hypothesis("fish", 0), Hypothesis("fish the", 0)]]
    rescored = rescorer.rescore_all(lists)
    assert {each.text for each in next(rescored)} == {"the cat", "a dog"}
    with pytest.raises(NumberError):
        next(rescored)


def test_wrong_arguments_are_refused(predictor: Predictor) -> None:
    with pytest.raises(ArgumentError, match="text is int 5"):
        Hypothesis(5, 1.0)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="score is None"):
        Hypothesis("the", None)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="score is nan, expected a finite number"):
        Hypothesis("the", float("nan"))
    with pytest.raises(OptionError, match="weight is inf"):
        Rescorer(predictor, weight=float("inf"))
    with pytest.raises(ArgumentError, match="an entry of a list is"):
        Rescorer(predictor).rescore(["the cat"])  # type: ignore[list-item]


def judged_lists(features: int, seed: int) -> list[JudgedList]:
    draw = np.random.default_rng(seed)
    return [
        JudgedList(draw.normal(0, 3, size), draw.normal(0, 1, (size, features)), draw.integers(0, 9, size))
        for size in draw.integers(1, 12, 40)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_one_weight_is_tuned_exactly(seed: int) -> None:
    lists = judged_lists(1, seed)
    corners = [0.0, 1e6]
    for each in lists:
        for one, other in itertools.combinations(range(len(each.scores)), 2):
            corners.append((each.scores[one] - each.scores[other]) / (each.features[other] - each.features[one])[0])
    corners = sorted(corner for corner in corners if corner >= 0)
    fewest = min(errors_with(lists, np.array([low + high]) / 2) for low, high in itertools.pairwise(corners))
    weights = tune(lists)
    assert weights[0] >= 0
    assert errors_with(lists, weights) == fewest
    assert fewest < errors_with(lists, np.zeros(1))


def test_weights_that_rank_all_lists_right_are_found() -> None:
    lists = []
    for each in judged_lists(2, 7):
        totals = each.scores + each.features @ (2, -1)
        lists.append(each._replace(errors=(totals < totals.max()).astype(np.int64)))
    assert errors_with(lists, np.zeros(2)) > 5
    assert errors_with(lists, tune(lists)) <= 1


def test_equal_hypotheses_and_lists_of_one_need_no_weights() -> None:
    one = JudgedList(np.zeros(1), np.zeros((1, 2)), np.array([3]))
    equal = JudgedList(np.zeros(4), np.zeros((4, 2)), np.array([1, 1, 1, 1]))
    assert tune([one, equal]).tolist() == [0, 0]

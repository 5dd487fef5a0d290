"""Scores of many lines: those of the lines alone to the bit, in order, in few calls, with bounded memory."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import ArgumentError, NumberError, Predictor
from support.corpora import sentences
from support.models.networks import artifact_of, network_of

LINES = ["", *sentences(300, seed=5).splitlines(), "zebra", "the " * 300, "a " * 128, "a " * 129, "\t", "the zebra\n"]


def count_calls(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list to which every later call of the network appends its batch size."""
    sizes: list[int] = []
    log_probs = predictor.network.run_log_probs

    def counted(token_ids: Any, *arguments: Any) -> Any:
        sizes.append(len(token_ids))
        return log_probs(token_ids, *arguments)

    monkeypatch.setattr(predictor.network, "run_log_probs", counted)
    return sizes


def assert_equal(predictor: Predictor, texts: list[str]) -> None:
    """Check that the scores of many lines are those of the lines alone, with every number and in order."""
    assert list(predictor.scores(texts)) == [predictor.score(text) for text in texts]


def test_many_lines_have_the_same_scores_as_alone_in_few_calls(
    own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = random.Random(0).sample(LINES, len(LINES))
    assert own_predictor.batches_are_exact
    assert_equal(own_predictor, texts)
    sizes = count_calls(own_predictor, monkeypatch)
    assert len(list(own_predictor.scores(texts))) == len(texts)
    assert len(sizes) < len(texts) / 8
    assert max(sizes) == 64


def test_int8_and_characters_have_the_same_scores_as_alone(int8_predictor: Predictor) -> None:
    assert_equal(int8_predictor, LINES)
    tokens = ["\n", "\ufffd", *"abcdefghijklmnopqrstuvwxyz "]
    predictor = Predictor.load(artifact_of(network_of((7, 3), vocabulary=len(tokens)), tokens, "characters"))
    assert_equal(predictor, [*LINES, "\u00e9t\u00e9"])


def ranks_one_by_one(predictor: Predictor, text: str) -> tuple[int, ...]:
    """How many logits are at least that of each token, by one step a token; no two logits are equal."""
    vocabulary, state, ranks = predictor.vocabulary, predictor.initial_state(), []
    ids = vocabulary.encode(text)
    for before, token in itertools.pairwise([vocabulary.end_of_sentence_id, *ids]):
        logits, state = predictor.step([[before]], state)
        ranks.append(int((logits[0, 0] >= logits[0, 0, token]).sum()))
    return tuple(ranks)


def test_ranks_are_those_of_single_steps(int8_predictor: Predictor, dynamic_int8_path: Path) -> None:
    texts = LINES[::9]
    ranked = list(int8_predictor.scores(texts, ranks=True))
    assert [score.ranks for score in ranked] == [ranks_one_by_one(int8_predictor, text) for text in texts]
    assert [replace(score, ranks=None) for score in ranked] == list(int8_predictor.scores(texts))
    assert max(max(score.ranks or (0,)) for score in ranked) > 5
    alone = Predictor.load(dynamic_int8_path)  # not batch-invariant
    assert [score.ranks for score in alone.scores(["the cat", ""], ranks=True)] == [
        ranks_one_by_one(alone, "the cat"),
        (),
    ]
    assert next(iter(alone.scores(["the cat"]))).ranks is None


def test_lines_of_wide_networks_have_the_same_scores_as_alone() -> None:
    words = ["<eos>", "<unk>", *{word for line in LINES for word in line.split()}, *(f"w{n}" for n in range(3000))]
    predictor = Predictor.load(artifact_of(network_of((96, 48), vocabulary=len(words)), words, "whitespace"))
    assert predictor.batches_are_exact
    assert_equal(predictor, LINES)


def test_an_artifact_that_is_not_batch_invariant_runs_line_by_line(
    dynamic_int8_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor.load(dynamic_int8_path)
    assert not predictor.batches_are_exact
    assert_equal(predictor, LINES[:50])
    sizes = count_calls(predictor, monkeypatch)
    assert len(list(predictor.scores(LINES))) == len(LINES)
    assert set(sizes) == {1}


def test_an_artifact_that_is_wrongly_called_batch_invariant_runs_line_by_line(
    own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = own_predictor.step

    def depends_on_neighbours(token_ids: Any, *arguments: Any, **options: Any) -> Any:
        logits, after = step(token_ids, *arguments, **options)
        return (np.nextafter(logits, np.float32(9)) if len(token_ids) == 16 else logits), after

    monkeypatch.setattr(own_predictor, "step", depends_on_neighbours)
    assert not own_predictor.batches_are_exact
    sizes = count_calls(own_predictor, monkeypatch)
    assert len(list(own_predictor.scores(LINES))) == len(LINES)
    assert set(sizes) == {1}


def test_any_number_of_lines_is_read_in_windows(predictor: Predictor) -> None:
    taken: list[int] = []
    scores = predictor.scores(map(_the_cat, _counted(taken)))
    assert next(scores) == predictor.score("the cat ")
    assert len(taken) == 64
    assert all(len(score.tokens) == 2 for score in itertools.islice(scores, 5000))
    assert len(taken) <= 5001 + 2048


def test_long_lines_are_not_read_ahead(predictor: Predictor) -> None:
    taken: list[int] = []
    scores = predictor.scores(10_000 * _the_cat(number) for number in _counted(taken))
    assert len(next(scores).tokens) == 20_000
    assert len(taken) == 2  # 160,000 characters


def _the_cat(_: int) -> str:
    return "the cat "


def _counted(taken: list[int]) -> Iterator[int]:
    """Numbers without end, each appended to `taken` when it is taken."""
    for number in itertools.count():
        taken.append(number)
        yield number


def test_the_lines_before_a_wrong_one_have_scores(own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    run = own_predictor.network.run_log_probs
    fish = own_predictor.vocabulary.id("fish")

    def fails(token_ids: Any, *arguments: Any) -> Any:
        if (np.asarray(token_ids) == fish).any():
            raise NumberError("the log-probabilities are not finite")
        return run(token_ids, *arguments)

    monkeypatch.setattr(own_predictor.network, "run_log_probs", fails)
    scores = own_predictor.scores(["the cat", "a dog", "the fish saw", "the cat"])
    assert [len(next(scores).tokens), len(next(scores).tokens)] == [2, 2]
    with pytest.raises(NumberError):
        next(scores)


@pytest.mark.parametrize("lines", ["the cat", None, 3, b"the cat"])
def test_what_is_no_lines_is_refused(predictor: Predictor, lines: Any) -> None:
    with pytest.raises(ArgumentError, match="expected"):
        list(predictor.scores(lines))
    with pytest.raises(ArgumentError, match="a line is int"):
        list(predictor.scores(["the cat", 3]))  # type: ignore[list-item]
    scores = predictor.scores(["the cat", "a dog", 3])  # type: ignore[list-item]
    assert [len(next(scores).tokens), len(next(scores).tokens)] == [2, 2]

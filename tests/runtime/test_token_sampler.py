"""The choice of tokens: the distribution that the options state, the same alone and in a batch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import Sampling
from lmtool.runtime.draws import token_sampler
from lmtool.runtime.draws.draw import Draw, following_number
from lmtool.runtime.draws.token_sampler import TokenSampler
from lmtool.runtime.session.probabilities import ranked
from lmtool.runtime.session.row_calls import padded_width, run_rows
from lmtool.runtime.session.weightless import FACTOR, NUMBER, PROBABILITIES, ROWS, TOKEN, TOTAL, nucleus_graph
from support.log_softmax import log_softmax

NONE = np.zeros(0, np.int64)
OPTIONS = [
    Sampling("greedy"),
    Sampling(),
    Sampling(temperature=0.7),
    Sampling(temperature=2.5),
    Sampling(top_k=40),
    Sampling(top_k=7, temperature=0.6),
    Sampling(top_p=0.9),
    Sampling(top_p=0.5, temperature=1.5),
    Sampling(top_p=0.2, temperature=2),
    Sampling(top_k=50, top_p=0.8),
    Sampling(repetition_penalty=1.3),
    Sampling(top_k=20, repetition_penalty=1.7),
    Sampling("weighted-at-boundaries"),
]


def make_logits(texts: int, size: int, spread: float = 3.0, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    logits = (random.standard_normal((texts, size)) * spread).astype(np.float32)
    logits[:, random.integers(0, size, size // 4)] = np.float32(spread)  # many that are equal
    return logits


def make_draws(count: int) -> list[Draw]:
    draws = []
    for row in range(count):
        bias = (np.array([1, 5]), np.array([3, -np.inf], np.float32)) if row % 3 == 2 else None
        barred = np.arange(row % 5)
        draw = Draw(OPTIONS[row % len(OPTIONS)], np.random.default_rng(row), barred, bias, at_boundary=row % 2 == 0)
        draw.recent.extend([3, 8, 8, row % 9])
        draws.append(draw)
    return draws


@pytest.mark.parametrize("size", [11, 64, 1000, 4452])
def test_a_text_gets_the_same_tokens_alone_and_in_any_batch(size: int) -> None:
    count = 2 * len(OPTIONS)
    logits = make_logits(count, size)
    before = logits.copy()
    sampler = TokenSampler(size)
    rows = zip(logits, make_draws(count), strict=True)
    alone = [[int(sampler.choose(row[None], [draw])[0]) for _ in range(5)] for row, draw in rows]
    together, mixed = make_draws(count), make_draws(count)
    order = np.random.default_rng(3).permutation(count)
    for turn in range(5):
        assert sampler.choose(logits, together).tolist() == [each[turn] for each in alone]
        shuffled = sampler.choose(logits[order], [mixed[row] for row in order])
        assert shuffled.tolist() == [alone[row][turn] for row in order]
    assert np.array_equal(before, logits)


@pytest.mark.parametrize("options", [{}, {"top_k": 300}, {"top_k": 5000, "top_p": 0.8}])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("spread", [0.01, 1.0, 6.0])
def test_a_number_draws_the_token_that_the_definition_says(
    options: dict[str, float], temperature: float, spread: float
) -> None:
    """Up to the rounding of float32, in which tokens of almost equal probability change places."""
    (logits,) = make_logits(1, 9000, spread)
    logits[7] = -np.inf
    sampling = Sampling(temperature=temperature, **options)
    order, weights = by_definition(sampling, logits)
    cumulative, total = np.concatenate([[0], np.cumsum(weights)]), weights.sum()
    place = {token: index for index, token in enumerate(order)}
    draw = Draw(sampling, np.random.default_rng(0), NONE)
    found = TokenSampler(len(logits)).choose(np.broadcast_to(logits, (50, len(logits))), [draw] * 50)
    for number, token in zip(np.random.default_rng(0).random(50) * total, found.tolist(), strict=True):
        first = last = place[token]
        if options:
            weight = weights[place[token]]
            first = int(np.searchsorted(-weights, -weight * (1 + 2e-6)))
            last = int(np.searchsorted(-weights, -weight * (1 - 2e-6))) - 1
        assert cumulative[first] - 1e-6 * total <= number <= cumulative[last + 1] + 1e-6 * total


@pytest.mark.parametrize("share", [0.2, 0.5, 0.97])
@pytest.mark.parametrize("temperature", [0.3, 3.0])
@pytest.mark.parametrize("spread", [0.01, 1.0, 6.0])
def test_the_first_token_in_the_nucleus_is_drawn(share: float, temperature: float, spread: float) -> None:
    """But for tokens whose probabilities differ by the rounding of float32."""
    (logits,) = make_logits(1, 9000, spread)
    sampling = Sampling(temperature=temperature, top_p=share)
    order, weights = by_definition(sampling, logits)
    draw = Draw(sampling, np.random.default_rng(0), NONE)
    found = TokenSampler(len(logits)).choose(np.broadcast_to(logits, (50, len(logits))), [draw] * 50)
    everything = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    cumulative = np.cumsum(everything) / everything.sum()
    same = 0
    for first, token in zip(np.random.default_rng(0).random(50), found.tolist(), strict=True):
        number, tries = first, 8 if share >= 0.5 else 1
        for _ in range(tries):
            expected = int(np.searchsorted(cumulative, number, "right"))
            if expected in order:
                break
            number = following_number(number)
        else:
            expected = order[int(np.searchsorted(np.cumsum(weights) / weights.sum(), number, "right"))]
        assert token in order or everything[token] == pytest.approx(weights[-1], rel=2e-6)
        same += token == expected
    assert same >= 48


def test_the_sorted_nucleus_is_the_same_alone_and_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_sampler, "_TURNS", 1)
    sorted_rows: list[np.ndarray] = []
    by_sorting = token_sampler._by_sorting

    def recorded(probabilities: np.ndarray, wanted: float, number: float) -> int:
        sorted_rows.append(probabilities)
        return by_sorting(probabilities, wanted, number)

    monkeypatch.setattr(token_sampler, "_by_sorting", recorded)
    logits, sampler = make_logits(60, 3000), TokenSampler(3000)
    alone, together = ([Draw(Sampling(top_p=0.5), np.random.default_rng(row), NONE) for row in range(60)] for _ in "ab")
    expected = [sampler.choose_one(row, draw) for row, draw in zip(logits, alone, strict=True)]
    count = len(sorted_rows)
    assert sampler.choose(logits, together).tolist() == expected
    assert 10 < count == len(sorted_rows) - count


def test_following_numbers_are_as_good_as_drawn_ones() -> None:
    first = np.random.default_rng(0).random(200_000)
    second = np.array([following_number(number) for number in first.tolist()])
    third = np.array([following_number(number) for number in second.tolist()])
    assert 0 < second.min() < second.max() < 1
    for one, other in ((first, second), (second, third), (first, third)):
        counts, _, _ = np.histogram2d(one, other, bins=16, range=[[0, 1], [0, 1]])
        assert chi_square_excess(counts.ravel().astype(np.int64), np.full(256, 1 / 256)) < 4
    assert 0 < following_number(0.0) < 1
    for number in 0.3 + 1e-4 * first[:20_000], 1 - 1e-4 * first[:20_000]:  # of tokens that are refused
        for turn in range(9):
            number = np.array([following_number(each) for each in number.tolist()])
            counts, _ = np.histogram(number, bins=64, range=(0, 1))
            assert chi_square_excess(counts, np.full(64, 1 / 64)) < 4, turn


def by_definition(sampling: Sampling, logits: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The tokens that may be drawn, in the order of a draw, and their weights.

    The order is that of the ids for the temperature alone, else by probability and then by id.
    """
    cut = sampling.top_k is not None or sampling.top_p is not None
    order = sorted(range(len(logits)), key=lambda index: (-logits[index] if cut else 0, index))[: sampling.top_k]
    weights = np.exp((logits[order].astype(np.float64) - float(logits.max())) / sampling.temperature)
    if sampling.top_p is not None:
        weights = weights[: int(np.argmax(np.cumsum(weights) >= sampling.top_p * weights.sum())) + 1]
    return order[: len(weights)], weights


def test_equal_logits_are_drawn_evenly() -> None:
    logits = np.zeros((1, 5000), np.float32)
    for sampling in (Sampling(), Sampling(top_p=0.99), Sampling(top_k=4000)):
        draw = Draw(sampling, np.random.default_rng(0), NONE)
        chosen = TokenSampler(5000).choose(np.repeat(logits, 50, axis=0), [draw] * 50)
        assert len(set(chosen.tolist())) > 40
    logits[0, 4321] = 50
    assert TokenSampler(5000).choose(logits, [draw]) == [4321]


DRAWS = 40_000
SMALL = 120
TAILED = np.concatenate([[0.0], np.linspace(-1, -6, 69), np.linspace(-8, -12, 50)]).astype(np.float32)
"""Logits of 120 tokens; the last fifty have probabilities of 3e-5 to 5e-7, together about 5e-4."""

STATED = [
    Sampling(),
    Sampling(temperature=0.7),
    Sampling(temperature=1.8),
    Sampling(top_k=20),
    Sampling(top_k=20, temperature=1.4),
    Sampling(top_p=0.9),
    Sampling(top_p=0.9, temperature=1.4),
    Sampling(top_p=0.5),
    Sampling(top_p=0.2, temperature=3.0),
    Sampling(top_k=30, top_p=0.8, temperature=1.2),
]


def draw_many(sampling: Sampling, logits: np.ndarray, draws: int = DRAWS, seed: int = 5) -> np.ndarray:
    """How often each token was drawn."""
    sampler, size, found = TokenSampler(len(logits)), 1000, np.zeros(len(logits), np.int64)
    draw = Draw(sampling, np.random.default_rng(seed), NONE)
    rows = np.broadcast_to(logits, (size, len(logits)))
    for _ in range(draws // size):
        found += np.bincount(sampler.choose(rows, [draw] * size), minlength=len(logits))
    return found


def stated(sampling: Sampling, logits: np.ndarray) -> np.ndarray:
    """The distribution that the options state, float64 [vocabulary]."""
    order, weights = by_definition(sampling, logits)
    shares = np.zeros(len(logits))
    shares[order] = weights / weights.sum()
    return shares


def chi_square_excess(counts: np.ndarray, shares: np.ndarray) -> float:
    """Standard deviations by which chi-square lies above its mean; tokens that are too rare count together."""
    expected = shares * counts.sum()
    assert counts[expected == 0].sum() == 0
    rare = (expected < 8) & (expected > 0)
    common = expected >= 8
    observed = np.append(counts[common], counts[rare].sum())
    wanted = np.append(expected[common], expected[rare].sum())
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    freedom = max(len(wanted) - 1, 1)
    return float((((observed - wanted) ** 2 / wanted).sum() - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("sampling", STATED, ids=str)
def test_draws_have_the_distribution_that_the_options_state(sampling: Sampling) -> None:
    assert chi_square_excess(draw_many(sampling, TAILED), stated(sampling, TAILED)) < 4


@pytest.mark.parametrize("sampling", [Sampling(top_p=0.9), Sampling(top_k=20)])
def test_a_nucleus_one_too_small_is_found_out(sampling: Sampling) -> None:
    """The positive control of the test above."""
    shares = stated(sampling, TAILED)
    smaller = np.where(np.cumsum(shares) > 1 - shares[shares > 0].min() / 2, 0, shares)
    biased = np.random.default_rng(0).multinomial(DRAWS, smaller / smaller.sum())
    assert chi_square_excess(biased, shares) > 4


def _square(number: float) -> float:
    return number * number


def _is_in_a_smaller_nucleus(token: int, probabilities: np.ndarray, wanted: float) -> bool:
    return bool(probabilities[probabilities >= probabilities[token]].sum() < wanted)  # its last token is left out


@pytest.mark.parametrize(
    ("name", "fault"), [("following_number", _square), ("_is_in_nucleus", _is_in_a_smaller_nucleus)]
)
def test_a_bias_that_is_planted_in_the_sampler_is_found_out(
    monkeypatch: pytest.MonkeyPatch, name: str, fault: Callable[..., Any]
) -> None:
    sampling = Sampling(top_p=0.9)
    monkeypatch.setattr(token_sampler, name, fault)
    assert chi_square_excess(draw_many(sampling, TAILED), stated(sampling, TAILED)) > 4


def test_weights_of_half_precision_are_found_out() -> None:
    """The positive control for the tails: rounded cumulative weights lose rare tokens."""
    shares = stated(Sampling(), TAILED)
    sums = np.cumsum(shares.astype(np.float16), dtype=np.float16).astype(np.float64)
    drawn = np.searchsorted(sums / sums[-1], np.random.default_rng(0).random(DRAWS), side="right")
    assert chi_square_excess(np.bincount(drawn, minlength=SMALL), shares) > 4


def test_rare_tokens_are_drawn_as_often_as_they_should_be() -> None:
    """Over a vocabulary of two blocks: 64 tokens of 1e-5 each at its end."""
    logits = np.zeros(128, np.float32)
    logits[64:] = np.float32(np.log(64e-5))
    counts = draw_many(Sampling(), logits, draws=100_000)
    expected = stated(Sampling(), logits)[64:].sum() * 100_000
    assert abs(counts[64:].sum() - expected) < 4 * np.sqrt(expected)
    assert (counts[64:] > 0).sum() > 20


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(temperature=1e-30), {2}),
        (Sampling(temperature=1e-30, top_k=3), {2}),
        (Sampling(temperature=1e-320, top_p=0.5), {2}),
        (Sampling(temperature=1e30), {0, 1, 2, 4}),
        (Sampling(temperature=1e300), {0, 1, 2, 4}),
        (Sampling(temperature=1e30, top_k=2), {0, 2}),
        (Sampling(temperature=1e30, top_p=0.49), {0, 1}),
        (Sampling(top_k=10**9), {0, 1, 2, 4}),
        (Sampling(top_p=1e-12), {2}),
        (Sampling(top_k=10**9, top_p=1e-12), {2}),
        (Sampling(top_p=1.0), {0, 1, 2, 4}),
    ],
    ids=str,
)
def test_extreme_options(sampling: Sampling, expected: set[int]) -> None:
    logits = np.array([1.0, 0.5, 1.25, -np.inf, 0.75], np.float32)
    assert set(np.flatnonzero(draw_many(sampling, logits, draws=2000)).tolist()) == expected


def test_the_largest_penalty_and_temperature_leave_barred_tokens_out() -> None:
    draw = Draw(Sampling(temperature=1e300, repetition_penalty=1e300), np.random.default_rng(0), np.array([0, 3]))
    draw.recent.extend([1, 2])
    for count in (1, 50):
        logits = np.tile(np.array([[1, 0, 2, 1, 0.5]], np.float32), (count, 1))
        assert set(TokenSampler(5).choose(logits, [draw] * count).tolist()) <= {1, 2, 4}


@pytest.mark.parametrize("sampling", STATED, ids=str)
def test_the_only_token_that_is_left_is_chosen(sampling: Sampling) -> None:
    barred = np.delete(np.arange(SMALL), 117)
    draw = Draw(sampling, np.random.default_rng(0), barred)
    assert TokenSampler(SMALL).choose(np.tile(TAILED, (30, 1)), [draw] * 30).tolist() == [117] * 30
    assert TokenSampler(SMALL).choose(TAILED[None], [draw]) == [117]
    assert Sampling("greedy").choose(np.where(np.arange(SMALL) == 117, TAILED, -np.inf), draw.random, True) == 117


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(top_k=1), Sampling(top_k=2), Sampling(top_p=0.6)])
def test_a_vocabulary_of_two(sampling: Sampling) -> None:
    logits = np.log(np.array([0.4, 0.6], np.float32))
    assert chi_square_excess(draw_many(sampling, logits, 10_000), stated(sampling, logits)) < 4


def test_the_lowest_id_is_the_greedy_choice_among_equals() -> None:
    options = (Sampling(temperature=0), Sampling(top_k=1))
    draws = [Draw(sampling, np.random.default_rng(0), np.array([0])) for sampling in options]
    assert TokenSampler(70).choose(np.zeros((2, 70), np.float32), draws).tolist() == [1, 1]


def test_a_bias_adds_to_the_logits_and_a_penalty_comes_after_it() -> None:
    logits = np.array([[0.0, 1.0, 2.0]], np.float32)
    biased = Draw(Sampling("greedy"), np.random.default_rng(0), NONE, (np.array([0]), np.array([2.5], np.float32)))
    assert TokenSampler(3).choose(logits, [biased]) == [0]
    both = Draw(Sampling("greedy", repetition_penalty=2.0), biased.random, NONE, biased.bias)
    both.recent.append(0)
    assert TokenSampler(3).choose(logits, [both]) == [2]


def test_one_number_is_drawn_for_a_token_and_none_for_a_greedy_one() -> None:
    for sampling in OPTIONS:
        random, same = np.random.default_rng(9), np.random.default_rng(9)
        sampling.choose(TAILED, random, at_boundary=True)
        same.random(0 if sampling.method == "greedy" else 1)
        assert random.random() == same.random()


@pytest.mark.parametrize("size", [2, 64, 65, 4452])
def test_probabilities_and_totals_have_the_same_bits_alone_and_in_a_batch(size: int) -> None:
    rows = np.full((300, padded_width(size)), -np.inf, np.float32)
    rows[:, :size] = make_logits(300, size)
    factors = np.linspace(0.3, 3, 300, dtype=np.float32)[:, None]
    inputs = {ROWS: rows, FACTOR: factors, NUMBER: np.linspace(0.001, 0.999, 300)[:, None]}
    together = run_rows(nucleus_graph, [PROBABILITIES, TOTAL, TOKEN], inputs)
    for row in range(0, 300, 7):
        one = slice(row, row + 1)
        alone = run_rows(
            nucleus_graph, [PROBABILITIES, TOTAL, TOKEN], {name: each[one] for name, each in inputs.items()}
        )
        assert all(np.array_equal(own, others[one]) for own, others in zip(alone, together, strict=True))


def test_suggested_probabilities_are_exact_and_ties_go_by_id() -> None:
    """Their relative error is at most 1e-6."""
    for size, spread in ((2, 1.0), (4452, 3.0), (33_000, 8.0)):
        logits = make_logits(1, size, spread)[0]
        for among in (None, list(range(1, size, 2)), list(range(0, size, 50))):
            ids = list(range(size)) if among is None else among
            expected = dict(zip(ids, np.exp(log_softmax(logits[ids])), strict=True))
            for count in (1, 7, 1000):
                best, probabilities = ranked(logits, count, among)
                assert best == sorted(ids, key=lambda index: (-logits[index], index))[:count]
                np.testing.assert_allclose(probabilities, [expected[index] for index in best], rtol=1e-6)

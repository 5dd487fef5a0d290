"""The choice of tokens: the distribution that the options state, the same alone and in a batch."""

import numpy as np
import pytest
from lmtool.runtime import Sampling
from lmtool.runtime.token_sampler import Draw, TokenSampler

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


@pytest.mark.parametrize(
    "options", [{}, {"top_p": 0.5}, {"top_p": 0.97}, {"top_k": 300}, {"top_k": 5000, "top_p": 0.8}]
)
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

import numpy as np
import pytest
from lmtool.runtime import OptionError, Sampling

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))


def frequencies(sampling: Sampling, at_boundary: bool = True) -> np.ndarray:
    random = np.random.default_rng(0)
    draws = [sampling.choose(LOGITS, random, at_boundary) for _ in range(20_000)]
    return np.bincount(draws, minlength=4) / len(draws)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.5, 0.3, 0.15, 0.05]),
        (Sampling(temperature=0.5), np.array([0.25, 0.09, 0.0225, 0.0025]) / 0.365),
        (Sampling(top_k=2), [0.625, 0.375, 0, 0]),
        (Sampling(top_p=0.7), [0.625, 0.375, 0, 0]),
        (Sampling(top_p=0.81), [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
        (Sampling(top_p=1.0), [0.5, 0.3, 0.15, 0.05]),
        (Sampling(method="greedy"), [1, 0, 0, 0]),
        (Sampling(temperature=0), [1, 0, 0, 0]),
    ],
)
def test_tokens_are_drawn_as_often_as_they_should_be(sampling: Sampling, expected: list[float]) -> None:
    np.testing.assert_allclose(frequencies(sampling), expected, atol=0.012)


@pytest.mark.parametrize("sampling", [Sampling(temperature=1e-320), Sampling(repetition_penalty=1e308)])
def test_extreme_options_raise_no_warning(sampling: Sampling) -> None:
    assert sampling.choose(LOGITS - 1, np.random.default_rng(0), True, recent=[1, 2, 3]) == 0


def test_inside_a_word_the_boundary_method_is_greedy() -> None:
    sampling = Sampling(method="weighted-at-boundaries")
    assert frequencies(sampling, at_boundary=False)[0] == 1
    np.testing.assert_allclose(frequencies(sampling), [0.5, 0.3, 0.15, 0.05], atol=0.012)


def test_a_token_that_is_ruled_out_is_never_drawn() -> None:
    logits = LOGITS.copy()
    logits[0] = -np.inf
    random = np.random.default_rng(0)
    assert all(Sampling().choose(logits, random, True) != 0 for _ in range(2000))


def test_the_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    logits = np.array([1.0, 0.8, -0.5, -0.6], np.float32)
    penalised = np.array([1.0, 0.8 / 1.5, -0.5, -0.6 * 1.5])
    expected = np.exp(penalised) / np.exp(penalised).sum()
    random = np.random.default_rng(0)
    sampling = Sampling(repetition_penalty=1.5)
    draws = [sampling.choose(logits, random, True, [3, 1, 3, 3]) for _ in range(20_000)]
    np.testing.assert_allclose(np.bincount(draws, minlength=4) / len(draws), expected, atol=0.012)
    assert logits[1] == np.float32(0.8)


def test_the_penalty_turns_a_greedy_choice() -> None:
    logits = np.array([1.0, 0.9, -2.0, -np.inf], np.float32)
    greedy = Sampling(method="greedy", repetition_penalty=1.2)
    random = np.random.default_rng(0)
    assert greedy.choose(logits, random, True) == 0
    assert greedy.choose(logits, random, True, [0, 3]) == 1
    assert Sampling(method="greedy").choose(logits, random, True, [0]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repetition_penalty": 0.9}, "repetition_penalty is 0.9, expected 1"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty is nan"),
        ({"repetition_penalty": float("inf")}, "repetition_penalty is inf"),
        ({"repetition_window": 0}, "repetition_window is 0"),
    ],
)
def test_a_penalty_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Sampling(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("top_p", [None, 0.5, 0.97])
@pytest.mark.parametrize("spread", [0.01, 1.0, 6.0])
def test_over_a_large_vocabulary_the_same_tokens_are_drawn(
    temperature: float, top_p: float | None, spread: float
) -> None:
    """Only the most probable tokens are sorted, unless the draw needs others."""
    random = np.random.default_rng(1)
    logits = (random.standard_normal(9000) * spread).astype(np.float32)
    logits[random.integers(0, 9000, 2500)] = np.float32(spread)  # many that are equal
    logits[7] = -np.inf
    sampling = Sampling(temperature=temperature, top_p=top_p)
    order, cumulative = by_definition(sampling, logits)
    for seed in range(100):
        draw = np.random.default_rng(seed).random() * cumulative[-1]
        expected = order[int(np.argmax(cumulative > draw))]
        assert sampling.choose(logits, np.random.default_rng(seed), at_boundary=True) == expected


def by_definition(sampling: Sampling, logits: np.ndarray) -> tuple[list[int], np.ndarray]:
    """All tokens sorted by probability and then by id, and the cumulative weights of those that may be drawn."""
    order = sorted(range(len(logits)), key=lambda index: (-logits[index], index))
    weights = np.exp((logits[order].astype(np.float64) - float(logits.max())) / sampling.temperature)
    if sampling.top_p is not None:
        weights = weights[: int(np.argmax(np.cumsum(weights) >= sampling.top_p * weights.sum())) + 1]
    return order, np.cumsum(weights)


def test_equal_logits_fall_back_to_a_full_sort() -> None:
    logits = np.zeros(5000, np.float32)
    chosen = {Sampling().choose(logits, np.random.default_rng(seed), at_boundary=True) for seed in range(50)}
    assert len(chosen) > 40
    peak = logits.copy()
    peak[4321] = 50
    assert Sampling().choose(peak, np.random.default_rng(0), at_boundary=True) == 4321

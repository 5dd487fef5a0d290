from collections.abc import Sequence

import numpy as np
import pytest
from lmtool.runtime import OptionError, Sampling
from lmtool.runtime.draws.draw import Draw
from lmtool.runtime.draws.token_sampler import TokenSampler

NONE = np.zeros(0, np.int64)
LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))


def frequencies(
    sampling: Sampling, at_boundary: bool = True, logits: np.ndarray = LOGITS, recent: Sequence[int] = ()
) -> np.ndarray:
    draw = Draw(sampling, np.random.default_rng(0), NONE, at_boundary=at_boundary)
    draw.recent.extend(recent)
    drawn = TokenSampler(4).choose(np.broadcast_to(logits, (20_000, 4)), [draw] * 20_000)
    return np.bincount(drawn, minlength=4) / len(drawn)


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
    assert frequencies(Sampling(), logits=logits)[0] == 0


def test_the_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    logits = np.array([1.0, 0.8, -0.5, -0.6], np.float32)
    penalised = np.array([1.0, 0.8 / 1.5, -0.5, -0.6 * 1.5])
    expected = np.exp(penalised) / np.exp(penalised).sum()
    found = frequencies(Sampling(repetition_penalty=1.5), logits=logits, recent=[3, 1, 3, 3])
    np.testing.assert_allclose(found, expected, atol=0.012)
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


@pytest.mark.parametrize(
    "logits", [np.zeros(0), np.zeros((1, 3)), np.zeros(()), *([0, each, 1] for each in (np.nan, np.inf)), [-np.inf] * 2]
)
def test_logits_of_another_shape_or_without_a_highest_are_refused(logits: Sequence[float]) -> None:
    with pytest.raises(OptionError, match="logits are float32 .* expected float32 .vocabulary. with a finite one"):
        Sampling().choose(np.array(logits, np.float32), np.random.default_rng(1), at_boundary=True)

"""The continuous cache: probabilities by hand, off at weight 0, part of the state, one per stream."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import Cache, CacheOptions, OptionError, Predictor, State, StateError, TokenError
from support.models.networks import network_of, predictor_of

TOKENS = ["<eos>", "<unk>", *(f"w{number}" for number in range(9))]
IDS = np.random.default_rng(2).integers(0, 11, 40).tolist()
OPTIONS = CacheOptions(size=6, theta=1.5, weight=0.3)


@pytest.fixture(scope="module")
def tiny() -> Predictor:
    """Eleven words, layers of 7 and 3 units, large random weights."""
    return predictor_of(network_of((7, 3)), TOKENS, "whitespace")


def softmax(values: np.ndarray) -> np.ndarray:
    weights = np.exp(values.astype(np.float64) - values.max())
    return weights / weights.sum()


def probabilities_by_hand(predictor: Predictor, read: list[int], options: CacheOptions) -> np.ndarray:
    """The paper's formula, pair by pair: float64 [vocabulary] after `read`, from the zero state."""
    where = list(predictor.artifact.architecture.states).index("hidden_1")
    state = predictor.initial_state(1)
    hidden = []
    for token_id in read:
        logits, state = predictor.step([[token_id]], state)
        hidden.append(state.tensors[where][0].astype(np.float64))
    pairs = list(zip(hidden[:-1], read[1:], strict=True))[-options.size :]
    cached = np.zeros(len(predictor.vocabulary))
    for key, token_id in pairs:
        cached[token_id] += np.exp(options.theta * (hidden[-1] @ key))
    model = softmax(logits[0, -1])
    return (1 - options.weight) * model + options.weight * cached / cached.sum() if pairs else model


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("options", [OPTIONS, CacheOptions(size=100, theta=0, weight=0.9), CacheOptions(1, 50.0, 0.5)])
def test_probabilities_are_those_of_the_formula(cell: str, options: CacheOptions) -> None:
    predictor = predictor_of(network_of((7, 3), cell=cell), TOKENS, "whitespace")
    stream = predictor.stream(cache=options)
    for index, token_id in enumerate(IDS):
        expected = probabilities_by_hand(predictor, [0, *IDS[:index]], options)
        np.testing.assert_allclose(softmax(stream.logits()), expected, rtol=2e-5)
        suggested = dict(stream.suggest(20, allow_unknown=True))
        shown = [(suggested[token], value) for token, value in zip(TOKENS, expected, strict=True) if token != "<eos>"]
        assert [probability for probability, _ in shown] == pytest.approx([value for _, value in shown], rel=2e-5)
        assert len(shown) == len(suggested) == len(TOKENS) - 1
        stream.feed_ids([token_id])


def test_a_small_weight_changes_the_mixture_little(tiny: Predictor) -> None:
    plain, cached = tiny.stream(), tiny.stream(cache=CacheOptions(weight=1e-9))
    for stream in (plain, cached):
        stream.feed_ids(IDS)
    np.testing.assert_allclose(cached.logits(), plain.logits(), atol=1e-6)


def test_a_weight_of_zero_equals_no_cache_to_the_bit(tiny: Predictor, int8_predictor: Predictor) -> None:
    for predictor in (tiny, int8_predictor):
        plain, off = predictor.stream(), predictor.stream(cache=CacheOptions(weight=0))
        for stream in (plain, off):
            stream.feed_ids(IDS)
        assert np.array_equal(plain.logits(), off.logits())
        assert off.state.cache is None
        assert off.state.to_bytes() == plain.state.to_bytes()


def test_tokens_that_were_read_become_more_probable(predictor: Predictor) -> None:
    text = "the cat saw some bonds\n" * 3
    plain, cached = predictor.stream(), predictor.stream(cache=CacheOptions())
    first = cached.score(text)
    assert first.token_log_probs[0] == plain.score(text).token_log_probs[0]
    assert cached.score(text).perplexity < first.perplexity
    assert cached.score(text).perplexity < plain.score(text).perplexity


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [13, 27]])
def test_feeding_in_parts_equals_feeding_at_once(tiny: Predictor, sizes: list[int]) -> None:
    at_once, in_parts = tiny.stream(cache=OPTIONS), tiny.stream(cache=OPTIONS)
    at_once.feed_ids(IDS)
    start = 0
    for size in sizes:
        in_parts.feed_ids(IDS[start : start + size])
        in_parts.suggest(1)
        start += size
    assert np.array_equal(at_once.logits(), in_parts.logits())
    assert at_once.state.to_bytes() == in_parts.state.to_bytes()
    assert list(at_once.generate(20, seed=1)) == list(in_parts.generate(20, seed=1))


def test_a_long_text_runs_before_a_prediction(tiny: Predictor) -> None:
    ids = np.random.default_rng(3).integers(0, 11, 700).tolist()
    stream, steady = tiny.stream(cache=OPTIONS), tiny.stream(cache=OPTIONS)
    stream.feed_ids(ids)
    assert stream.state.pending.shape[1] <= 512
    for token_id in ids:
        steady.feed_ids([token_id])
        steady.logits()
    assert np.array_equal(stream.logits(), steady.logits())


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 30])
@pytest.mark.parametrize("looked", [True, False])
def test_saved_and_restored_equals_never_stopped(tiny: Predictor, count: int, looked: bool) -> None:
    stream = tiny.stream(cache=OPTIONS)
    stream.feed_ids(IDS[:count])
    if looked:
        stream.logits()
    restored = tiny.stream(State.from_bytes(stream.state.to_bytes()))
    for token_id in IDS[count:]:
        assert np.array_equal(restored.logits(), stream.logits())
        for each in (restored, stream):
            each.feed_ids([token_id])
    assert restored.state.to_bytes() == stream.state.to_bytes()
    assert restored.state.cache is not None
    assert restored.state.cache.options == OPTIONS
    assert list(restored.generate(15, seed=2)) == list(stream.generate(15, seed=2))


def test_a_fork_is_independent(tiny: Predictor) -> None:
    stream = tiny.stream(cache=OPTIONS)
    stream.feed_ids(IDS)
    expected, snapshot = stream.logits().copy(), stream.state
    kept = snapshot.to_bytes()
    fork = tiny.stream(snapshot)
    fork.score([3, 3, 3, 3])
    assert np.array_equal(stream.logits(), expected)
    assert snapshot.to_bytes() == kept
    assert fork.state.to_bytes() != kept
    assert snapshot.cache is not None
    with pytest.raises(ValueError, match="read-only"):
        snapshot.cache.hidden[0, 0] = 1


def test_a_state_can_change_its_options(tiny: Predictor) -> None:
    stream = tiny.stream(cache=OPTIONS)
    stream.feed_ids(IDS)
    stream.logits()
    read = [0, *IDS]
    for options in (CacheOptions(2, 0.5, 0.6), replace(OPTIONS, weight=0.7)):
        expected = probabilities_by_hand(tiny, read, options)
        np.testing.assert_allclose(softmax(tiny.stream(stream.state, cache=options).logits()), expected, rtol=2e-5)
    larger = tiny.stream(stream.state, cache=replace(OPTIONS, size=50)).state.cache
    assert larger is not None
    assert larger.token_ids.tolist() == read[-6:]
    for dropped in (
        tiny.stream(stream.state, cache=CacheOptions(weight=0)),
        tiny.stream(replace(stream.state, cache=None)),
    ):
        assert dropped.state.cache is None


def test_a_stepped_state_accepts_a_cache(tiny: Predictor) -> None:
    _, state = tiny.step([[0, *IDS[:10]]], tiny.initial_state(1))
    stream = tiny.stream(state, cache=OPTIONS)
    stream.feed_ids(IDS[10:])
    assert stream.state.cache is not None
    expected = probabilities_by_hand(tiny, [0, *IDS], OPTIONS)
    np.testing.assert_allclose(softmax(stream.logits()), expected, rtol=2e-5)


@pytest.mark.parametrize("options", [None, OPTIONS])
def test_a_stream_scores_its_text(tiny: Predictor, options: CacheOptions | None) -> None:
    scoring, reading = tiny.stream(cache=options), tiny.stream(cache=options)
    scored = [scoring.score(IDS[:25]), scoring.score(""), scoring.score(IDS[25:26]), scoring.score(IDS[26:])]
    expected = []
    for token_id in IDS:
        expected.append(np.log(softmax(reading.logits())[token_id]))
        reading.feed_ids([token_id])
    log_probs = np.concatenate([score.token_log_probs for score in scored])
    np.testing.assert_allclose(log_probs, expected, rtol=1e-5)
    assert scored[0].tokens == tuple(TOKENS[token_id] for token_id in IDS[:25])
    assert np.array_equal(scoring.logits(), reading.logits())
    assert list(scoring.generate(9, seed=1)) == list(reading.generate(9, seed=1))
    with pytest.raises(TokenError, match="token id 99"):
        scoring.score([1, 99])
    with pytest.raises(StateError, match="nothing was fed since"):
        tiny.stream(tiny.initial_state(1), cache=options).score([1, 2])


def test_perplexity_with_a_cache_is_that_of_a_stream(tiny: Predictor) -> None:
    expected = [np.log(probabilities_by_hand(tiny, IDS[:place], OPTIONS)[IDS[place]]) for place in range(1, len(IDS))]
    assert tiny.perplexity(np.array(IDS), cache=OPTIONS) == pytest.approx(np.exp(-np.mean(expected)), rel=1e-5)
    assert tiny.perplexity(np.array(IDS), cache=CacheOptions(weight=0)) == pytest.approx(tiny.perplexity(np.array(IDS)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size is 0, expected 1 to 1,000,000"),
        ({"size": 10**9}, "size is 1000000000"),
        ({"theta": -0.1}, "theta is -0.1"),
        ({"theta": float("nan")}, "theta is nan"),
        ({"weight": 1.0}, "weight is 1.0, expected 0 .off. to below 1"),
        ({"weight": -0.1}, "weight is -0.1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        CacheOptions(**options)


def test_a_cache_that_does_not_fit_is_refused(tiny: Predictor, predictor: Predictor) -> None:
    stream = tiny.stream(cache=OPTIONS)
    stream.feed_ids(IDS)
    stream.logits()
    state = stream.state
    with pytest.raises(StateError, match="a stream's cache of 6 pairs, which a step would lose"):
        tiny.step([[1]], state)
    with pytest.raises(StateError, match="belongs to the model"):
        predictor.stream(state)
    hidden, ids = np.zeros((2, 3), np.float32), np.array([1, 2])
    for wrong, message in (
        (Cache(OPTIONS, np.zeros((2, 4), np.float32), ids), r"holds float32 \[2, 4\] .* expected float32 \[pairs, 3\]"),
        (Cache(OPTIONS, hidden.astype(np.float64), ids), "holds float64"),  # type: ignore[arg-type]
    ):
        with pytest.raises(StateError, match=message):
            tiny.stream(replace(state, cache=wrong))
    with pytest.raises(TokenError, match="token id 11 is outside"):
        tiny.stream(replace(state, cache=Cache(OPTIONS, hidden, np.array([1, 11]))))
    for arguments in ((hidden, ids[:1]), (hidden[0], ids), (np.zeros((7, 3), np.float32), np.zeros(7, np.int64))):
        with pytest.raises(StateError, match="a cache of size 6 has hidden states"):
            Cache(OPTIONS, *arguments)
    with pytest.raises(StateError, match="cannot be number 1"):
        Cache(OPTIONS, hidden, ids, oldest=1)


def test_damaged_bytes_are_refused(tiny: Predictor) -> None:
    stream = tiny.stream(cache=OPTIONS)
    stream.feed_ids(IDS)
    stream.logits()
    data = stream.state.to_bytes()
    assert data.startswith(b"lmstate2")
    for position in range(len(data)):
        for bit in (0x01, 0x10):
            broken = bytearray(data)
            broken[position] ^= bit
            with pytest.raises(StateError):
                tiny.stream(State.from_bytes(bytes(broken)))
    for size in range(len(data)):
        with pytest.raises(StateError):
            State.from_bytes(data[:size])


def test_a_state_without_a_cache_keeps_its_bytes(tiny: Predictor) -> None:
    state = tiny.stream().state
    assert state.to_bytes().startswith(b"lmstate1")
    assert State.from_bytes(state.to_bytes()).cache is None


def test_a_large_theta_is_no_warning(tiny: Predictor) -> None:
    stream = tiny.stream(cache=CacheOptions(size=20, theta=1e6, weight=0.5))
    stream.feed_ids(IDS)
    assert np.isfinite(stream.logits()).all()

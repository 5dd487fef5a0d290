"""Numbers stay numbers: NaN and infinity in weights and states never become a score."""

import functools
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import (
    ArtifactError,
    Autocompletion,
    Cache,
    CacheOptions,
    NumberError,
    PoolOptions,
    Predictor,
    State,
    StateError,
    StreamPool,
    TokenError,
)
from support.faults.non_finite import (
    NON_FINITE,
    artifact_with,
    float_weights,
    is_finite,
    weight_as_cast_half,
    weight_as_constant,
)
from support.scale import Many, Tally

PROMISE = "Numbers stay numbers"


def results(predictor: Predictor, start: State | None = None) -> Iterator[Callable[[], Any]]:
    """Everything that computes a result from logits."""
    stream = functools.partial(predictor.stream, start)
    cached = functools.partial(predictor.stream, start, cache=CacheOptions(size=5))
    ids = np.arange(len(predictor.vocabulary))
    yield lambda: stream().score("the cat saw a dog").token_log_probs
    yield lambda: cached().score("the cat saw a dog the cat").token_log_probs
    yield lambda: [share for _, share in after_text(stream()).suggest(3)]
    yield lambda: [share for _, share in after_text(stream()).suggest(3, prefix="t")]
    yield lambda: [share for _, share in after_text(cached()).suggest(3)]
    yield lambda: after_text(stream()).logits()
    yield lambda: list(after_text(stream()).generate(5, method="greedy")) and 0
    yield lambda: list(after_text(stream()).generate(5, seed=1)) and 0
    if start is not None:
        return
    yield lambda: predictor.score("the cat saw the <unk>").log_prob
    yield lambda: logarithm(predictor.perplexity(ids))
    yield lambda: logarithm(predictor.perplexity(ids, cache=CacheOptions(size=5)))
    yield lambda: predictor.log_probs(ids[None], predictor.initial_state(), ids[None])[0]
    yield lambda: [suggestion.probability for suggestion in Autocompletion(predictor, 3).suggestions("the cat ")]


def logarithm(perplexity: float) -> float:
    """A perplexity may be infinite, too large for a float, but never NaN."""
    return math.log(min(perplexity, sys.float_info.max))


def after_text(stream: Any) -> Any:
    stream.feed("the cat saw <unk>")
    return stream


def count_outcomes(actions: Iterator[Callable[[], Any]]) -> Counter[str]:
    """Number of results that were finite, refused, or not finite."""
    counts = Counter[str]()
    for action in actions:
        try:
            counts["numbers" if is_finite(action()) else "not_finite"] += 1
        except NumberError:
            counts["refused"] += 1
    return counts


def test_non_finite_weights_are_refused_at_load(
    artifacts: dict[str, Path], draw: random.Random, many: Many, tally: Tally
) -> None:
    cases = [(path, name, value) for path in artifacts.values() for name in float_weights(path) for value in NON_FINITE]
    for path, name, value in (chosen := draw.sample(cases, many(20, len(cases)))):
        data = artifact_with(path, name, value, draw)
        for variant in (data, weight_as_constant(data, name), weight_as_cast_half(data, name)):
            with pytest.raises(ArtifactError, match=f"its weight '{re.escape(name[:10])}.* holds numbers that are not"):
                Predictor.load(variant)
    tally(PROMISE, tried=3 * len(chosen), what="NaN or infinity in weights of artifacts", loaded=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_huge_weights_give_finite_results_or_an_error(
    artifacts: dict[str, Path],
    overflowing: Path,
    draw: random.Random,
    many: Many,
    tally: Tally,
) -> None:
    counts = count_outcomes(results(Predictor.load(overflowing)))
    assert counts["refused"] > 5
    for _ in range(tried := many(6, 150)):
        path = artifacts[draw.choice(("fp32", "int8"))]
        data = artifact_with(
            path, draw.choice(float_weights(path)), 10 ** draw.uniform(30, 38.5), draw, draw.choice((0, 0.3, 1))
        )
        counts += count_outcomes(results(Predictor.load(data)))
        assert counts["not_finite"] == 0
    assert counts["numbers"] > tried
    tally(PROMISE, tried=counts.total(), what="weights up to 3e38", refused=counts["refused"], not_a_number=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_unchecked_results_are_not_finite(
    artifacts: dict[str, Path], draw: random.Random, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """Positive control; onnxruntime's LSTM turns NaN into meaningless numbers, so weights are checked too."""
    for name in ("network", "cursor"):
        monkeypatch.setattr(f"lmtool.runtime.{name}.require_finite", lambda *_: None)
    monkeypatch.setattr("lmtool.runtime.artifact.artifact.require_finite_weights", lambda _: None)
    counts = Counter[str]()
    for name in float_weights(artifacts["fp32"]):
        predictor = Predictor.load(artifact_with(artifacts["fp32"], name, math.nan, draw, 1))
        counts += count_outcomes(functools.partial(drawn_by_nan, action) for action in results(predictor))
    assert counts["not_finite"] > 10
    assert counts["numbers"] > 10
    tally(PROMISE, tried=counts.total(), control=f"nothing checked: {dict(counts)}")


def drawn_by_nan(action: Callable[[], Any]) -> Any:
    """NaN where no token can be drawn, as their probabilities are NaN."""
    try:
        return action()
    except (IndexError, TokenError):
        return math.nan


def state_with_non_finite(predictor: Predictor, draw: random.Random) -> State:
    """A state of a stream with NaN or infinity in its tensors or its cache."""
    stream = predictor.stream(cache=CacheOptions(size=5))
    stream.score("the cat saw a dog")
    state = stream.state
    arrays = [array.copy() for array in (*state.tensors, state.cache.hidden)]
    flat = draw.choice(arrays).reshape(-1)
    flat[draw.randrange(flat.size)] = draw.choice(NON_FINITE)
    cache = Cache(state.cache.options, arrays[-1], state.cache.token_ids, state.cache.oldest)
    return State(state.model_sha256, tuple(arrays[:-1]), state.pending, cache)


def test_non_finite_states_are_refused(predictor: Predictor, draw: random.Random, many: Many, tally: Tally) -> None:
    message = "the state holds numbers that are not finite"
    with StreamPool(predictor, PoolOptions(max_streams=4)) as pool:
        for _ in range(tried := many(30, 500)):
            state = state_with_non_finite(predictor, draw)
            with pytest.raises(StateError, match=message):
                State.from_bytes(state.to_bytes())
            with pytest.raises(StateError, match=message):
                predictor.stream(state)
            plain = replace(state, cache=None, pending=np.zeros((1, 0), np.int64))
            if not all(is_finite(tensor) for tensor in plain.tensors):
                with pytest.raises(StateError, match=message):
                    pool.open_stream(plain)
        assert pool.stats.open_streams == 0
    tally(PROMISE, tried=tried, what="NaN or infinity in states and caches", taken=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_huge_states_give_finite_results_or_an_error(
    predictor: Predictor, draw: random.Random, many: Many, tally: Tally
) -> None:
    counts = Counter[str]()
    for _ in range(tried := many(10, 200)):
        size = 10 ** draw.uniform(0, 38.5)
        zero, start = predictor.initial_state(), np.array([[predictor.vocabulary.end_of_sentence_id]], np.int64)
        tensors = tuple(
            np.array([[draw.choice((-1, 1)) * size for _ in range(tensor.shape[1])]], np.float32)
            for tensor in zero.tensors
        )
        counts += count_outcomes(results(predictor, State(zero.model_sha256, tensors, start)))
    assert counts["not_finite"] == 0
    assert counts["numbers"] > tried
    tally(PROMISE, tried=counts.total(), what="states up to 3e38", refused=counts["refused"], not_a_number=0)

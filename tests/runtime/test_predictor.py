"""Promises of `step`: documented shapes, state as a value, any chunking, rows alone or together, refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lmtool.runtime import ArtifactError, OptionError, Predictor, State, StateError, TokenError


def tokens(predictor: Predictor, batch: int, time: int) -> np.ndarray:
    return np.random.default_rng(batch * 100 + time).integers(0, len(predictor.vocabulary), (batch, time))


def same(first: State, second: State) -> bool:
    return all(np.array_equal(ours, theirs) for ours, theirs in zip(first.tensors, second.tensors, strict=True))


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (1, 9), (6, 1), (4, 5)])
def test_shapes_and_types_are_as_documented(predictor: Predictor, batch: int, time: int) -> None:
    logits, state = predictor.step(tokens(predictor, batch, time), predictor.initial_state(batch))
    assert logits.shape == (batch, time, len(predictor.vocabulary))
    assert logits.dtype == np.float32
    assert list(predictor.artifact.architecture.states) == ["cell_0", "cell_1", "hidden_0", "hidden_1"]
    assert [tensor.shape for tensor in state.tensors] == [(batch, 7), (batch, 3), (batch, 7), (batch, 3)]
    assert state.batch_size == batch


def test_whole_equals_step_by_step_equals_chunks(predictor: Predictor) -> None:
    ids = tokens(predictor, 3, 12)
    whole, end = predictor.step(ids, predictor.initial_state(3))
    for sizes in ([1] * 12, [5, 3, 4], [11, 1]):
        state, parts, start = predictor.initial_state(3), [], 0
        for size in sizes:
            logits, state = predictor.step(ids[:, start : start + size], state)
            parts.append(logits)
            start += size
        assert np.array_equal(np.concatenate(parts, axis=1), whole)
        assert same(state, end)


def test_a_row_does_not_depend_on_its_neighbours(predictor: Predictor) -> None:
    ids = tokens(predictor, 16, 4)
    together, end = predictor.step(ids, predictor.initial_state(16))
    for row in range(16):
        alone, state = predictor.step(ids[row : row + 1], predictor.initial_state(1))
        assert np.array_equal(alone[0], together[row])
        assert all(np.array_equal(a[0], b[row]) for a, b in zip(state.tensors, end.tensors, strict=True))


def test_the_state_given_is_not_changed_and_cannot_be(predictor: Predictor) -> None:
    _, state = predictor.step(tokens(predictor, 2, 3), predictor.initial_state(2))
    before = [tensor.copy() for tensor in state.tensors]
    predictor.step(tokens(predictor, 2, 5), state)
    assert all(np.array_equal(a, b) for a, b in zip(before, state.tensors, strict=True))
    with pytest.raises(ValueError, match="read-only"):
        state.tensors[0][0, 0] = 1


def test_kept_logits_are_the_last_ones(predictor: Predictor) -> None:
    ids = tokens(predictor, 2, 6)
    whole, end = predictor.step(ids, predictor.initial_state(2))
    for kept in (1, 4, 6):
        logits, state = predictor.step(ids, predictor.initial_state(2), logits_to_keep=kept)
        assert np.array_equal(logits, whole[:, -kept:])
        assert same(state, end)
    for kept in (0, 7):
        with pytest.raises(OptionError, match=f"logits_to_keep is {kept}, expected 1 to the 6"):
            predictor.step(ids, predictor.initial_state(2), logits_to_keep=kept)


def test_no_tokens_change_nothing(predictor: Predictor) -> None:
    state = predictor.step(tokens(predictor, 2, 3), predictor.initial_state(2))[1]
    logits, after = predictor.step(np.zeros((2, 0), np.int64), state)
    assert logits.shape == (2, 0, len(predictor.vocabulary))
    assert same(state, after)


def test_pending_tokens_run_first(predictor: Predictor) -> None:
    ids = tokens(predictor, 2, 5)
    whole, end = predictor.step(ids, predictor.initial_state(2))
    logits, state = predictor.step(ids[:, 3:], replace(predictor.initial_state(2), pending=ids[:, :3].copy()))
    assert np.array_equal(logits, whole[:, 3:])
    assert same(state, end)
    assert state.pending.size == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([[0, -1]], "token id -1 is outside the vocabulary"),
        ([[0, 10_000]], "token id 10000 is outside"),
        ([[0.5]], "has the type float64"),
        ([[True]], "has the type bool"),
        ([0, 1], r"has the shape \[2\], expected \[batch, time\]"),
        (np.zeros((0, 3), np.int64), r"has the shape \[0, 3\]"),
    ],
)
def test_bad_tokens_are_refused_before_the_run(predictor: Predictor, bad: object, message: str) -> None:
    with pytest.raises(TokenError, match=message):
        predictor.step(bad, predictor.initial_state(1))  # type: ignore[arg-type]


def test_invalid_ids_are_refused_everywhere(predictor: Predictor) -> None:
    bad: list[tuple[object, str]] = [
        ([1.9], "type float64"),
        ([2**70], "type object"),
        ([-1], "token id -1"),
        ([[1]], r"the shape \[1, 1\]"),
        ([[1], [2, 3]], "are no array"),
    ]
    for ids, message in bad:
        with pytest.raises(TokenError, match=message):
            predictor.score(ids)  # type: ignore[arg-type]
        with pytest.raises(TokenError, match=message):
            predictor.stream().feed_ids(ids)  # type: ignore[arg-type]
    stream = predictor.stream()
    stream.feed_ids(np.array([1, 2]))  # type: ignore[arg-type]
    with pytest.raises(TokenError, match="are no array"):
        predictor.step([[1], [2, 3]], predictor.initial_state(2))


def test_a_state_does_not_follow_the_arrays_it_was_made_of(predictor: Predictor) -> None:
    arrays = [np.zeros((1, width), np.float32) for width in predictor.artifact.architecture.states.values()]
    state = State(predictor.artifact.sha256, tuple(arrays))
    arrays[0][0, 0] = 5
    assert arrays[0].flags.writeable
    assert state.tensors[0][0, 0] == 0
    pending = replace(state, pending=np.array([[1, 2]]))
    logits, after = predictor.step(np.zeros((1, 0), np.int64), pending)
    assert logits.shape == (1, 0, len(predictor.vocabulary))
    assert after.pending.size == 0
    assert same(after, predictor.step([[1, 2]], state)[1])


def test_every_integer_type_is_accepted(predictor: Predictor) -> None:
    expected = predictor.step([[1, 2]], predictor.initial_state(1))[0]
    for kind in (np.int32, np.uint8, np.int64):
        assert np.array_equal(predictor.step(np.array([[1, 2]], kind), predictor.initial_state(1))[0], expected)


def test_a_state_that_does_not_fit_is_refused(predictor: Predictor, int8_predictor: Predictor) -> None:
    state = predictor.initial_state(2)
    with pytest.raises(StateError, match="belongs to the model"):
        predictor.step([[0], [0]], int8_predictor.initial_state(2))
    with pytest.raises(StateError, match=r"cell_0 is float32 \[2, 7\], expected float32 \[3, 7\]"):
        predictor.step([[0], [0], [0]], state)
    with pytest.raises(StateError, match="has 3 tensors, expected 4"):
        predictor.step([[0], [0]], State(state.model_sha256, state.tensors[:3]))
    doubles = tuple(tensor.astype(np.float64) for tensor in state.tensors)
    with pytest.raises(StateError, match="cell_0 is float64"):
        predictor.step([[0], [0]], State(state.model_sha256, doubles))  # type: ignore[arg-type]
    with pytest.raises(StateError, match="pending tokens are of 1 stream, expected"):
        predictor.step([[0], [0]], replace(state, pending=np.zeros((1, 2), np.int64)))
    with pytest.raises(StateError, match="the state is NoneType, expected a State"):
        predictor.step([[0], [0]], None)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="batch_size is 0"):
        predictor.initial_state(0)


def test_loading_from_bytes_and_pinning_the_hash(artifact_path: Path, predictor: Predictor) -> None:
    loaded = Predictor.load(artifact_path.read_bytes(), sha256=predictor.artifact.sha256)
    assert np.array_equal(
        loaded.step([[3]], loaded.initial_state(1))[0], predictor.step([[3]], predictor.initial_state(1))[0]
    )
    with pytest.raises(ArtifactError, match="the pinned one is 00"):
        Predictor.load(artifact_path, sha256="00")
    with pytest.raises(OptionError, match="threads is 0"):
        Predictor.load(artifact_path, threads=0)


def test_scores_are_the_log_softmax_of_the_steps(predictor: Predictor) -> None:
    text = "the cat saw a zebra"
    ids = predictor.vocabulary.encode(text)
    logits, _ = predictor.step([[predictor.vocabulary.end_of_sentence_id, *ids[:-1]]], predictor.initial_state(1))
    probabilities = np.exp(logits[0].astype(np.float64))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = np.log(probabilities[np.arange(len(ids)), ids])
    expected[4] -= 6 * np.log(257)  # the spelling of `zebra`
    score = predictor.score(text)
    assert score.tokens == ("the", "cat", "saw", "a", "<unk>")
    assert score.unknown == 1
    np.testing.assert_allclose(score.token_log_probs, expected, rtol=1e-6)
    assert score.log_prob == pytest.approx(expected.sum())
    assert score.perplexity == pytest.approx(np.exp(-expected.mean()))


def test_scoring_does_not_depend_on_its_chunks(predictor: Predictor) -> None:
    ids = tokens(predictor, 1, 300)[0]
    whole = predictor.score(ids[5:].tolist(), context=ids[:5].tolist())
    parts = [predictor.score([int(ids[n])], context=ids[:n].tolist()).log_prob for n in range(5, 20)]
    np.testing.assert_allclose(whole.token_log_probs[:15], parts, rtol=1e-6)
    assert predictor.perplexity(ids) == pytest.approx(
        predictor.score(ids[1:].tolist(), context=ids[:1].tolist()).perplexity
    )


def test_empty_text_has_a_score(predictor: Predictor) -> None:
    score = predictor.score("")
    assert (score.log_prob, score.perplexity, score.tokens) == (0.0, 1.0, ())
    with pytest.raises(TokenError, match="context is empty"):
        predictor.score("the", context=[])
    with pytest.raises(TokenError, match="the text has 1 token, expected at least 2"):
        predictor.perplexity(np.array([1]))


def test_the_placement_names_the_heavy_nodes(predictor: Predictor, int8_predictor: Predictor) -> None:
    assert predictor.placement["cpu"]["LSTM"] == 2
    # The projection, and of each layer one product for a token and two for a sequence.
    assert int8_predictor.placement["cpu"]["MatMulInteger"] == 7

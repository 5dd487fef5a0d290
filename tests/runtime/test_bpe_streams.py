"""Streams, states and jobs of a model that reads bytes: texts are cut between characters and go on within them."""

from collections.abc import Iterator

import pytest
from lmtool.runtime import Autocompletion, Predictor, State, StateError, StreamPool
from support.models.subwords import FEW_MERGES, bpe_artifact

TEXT = "the caté 日本 😀\n"


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(bpe_artifact(FEW_MERGES))


@pytest.fixture(scope="module")
def pool(predictor: Predictor) -> Iterator[StreamPool]:
    with StreamPool(predictor) as pool:
        yield pool


def test_a_piece_comes_with_the_token_that_completes_its_characters(predictor: Predictor) -> None:
    stream = predictor.stream()
    stream.feed_ids(predictor.vocabulary.encode(TEXT)[:-2])  # within the last character
    assert stream.state.partial == "😀".encode()[:3]
    fork = stream.fork()
    fork.feed("x")
    assert fork.state.partial == b""
    assert "" in list(stream.generate(60, seed=1))


def test_a_text_goes_on_within_a_character(predictor: Predictor, pool: StreamPool) -> None:
    for cut in range(1, 5):
        ids = predictor.vocabulary.encode(f"{TEXT}😀"[: len(TEXT) + 1])[: -cut or None]
        stream = predictor.stream()
        stream.feed_ids(ids)
        saved = State.from_bytes(stream.state.to_bytes())
        expected = list(stream.fork().generate(30, seed=3))
        assert list(predictor.stream(saved).generate(30, seed=3)) == expected
        assert list(pool.generate(ids, 30, seed=3)) == expected
        job = pool.generate([], 30, state=saved, seed=3)
        assert job.result() == "".join(expected)
        assert list(job) == expected


def test_generated_parts_are_those_of_one_text(predictor: Predictor) -> None:
    whole, parts = predictor.stream(), predictor.stream()
    expected = list(whole.generate(40, temperature=0))
    pieces: list[str] = []
    for _ in range(20):
        pieces += parts.generate(2, temperature=0)
        parts = predictor.stream(State.from_bytes(parts.state.to_bytes()))
    assert pieces == expected


@pytest.mark.parametrize("partial", [b"a", b"\x80", b"\xf0\x9f\x98\x80", b"\xff"])
def test_a_state_whose_partial_is_no_start_of_a_character_is_refused(predictor: Predictor, partial: bytes) -> None:
    state = predictor.stream().state
    with pytest.raises(StateError, match="expected the first bytes of a UTF-8 character"):
        State(state.model_sha256, state.tensors, state.pending, partial=partial)


def test_tokens_are_scored_and_suggested_as_text(predictor: Predictor) -> None:
    score = predictor.score("the caté")
    assert score.tokens == ("the", " ", "c", "a", "t", "é")
    assert score.unknown == 0
    suggested = predictor.stream().suggest(300)
    assert all(text and text.split() == [text] and text.encode().decode() == text for text, _ in suggested)
    (best, *_) = Autocompletion(predictor, 3).suggestions("the ca")
    assert f"ca{best.text}".endswith(best.shown)


def test_words_have_the_sums_of_their_tokens(predictor: Predictor) -> None:
    text = "the  caté,\nthe 😀 x "
    words = predictor.score_words(text)
    assert [word for word, _ in words] == ["the", "caté,", "\n", "the", "😀", "x", " "]
    score = predictor.score(text)
    assert sum(log_prob for _, log_prob in words) == pytest.approx(score.log_prob)
    assert words[0][1] == score.token_log_probs[0]
    assert words[4][1] == pytest.approx(sum(score.token_log_probs[-8:-3]))
    assert predictor.score_words("") == []

"""Streams: lazy feeding, suggestions, generation; snapshots that continue here and in another process."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmtool.runtime import CacheOptions, OptionError, Predictor, State, StateError, TokenError
from support.models.networks import count_tokens, network_of, predictor_of

PROMPT = "the cat saw the fish\na dog"


def test_suggestions_are_the_most_probable_next_tokens(predictor: Predictor) -> None:
    stream = predictor.stream()
    stream.feed(PROMPT)
    ids = [predictor.vocabulary.end_of_sentence_id, *predictor.vocabulary.encode(PROMPT)]
    logits, _ = predictor.step([ids], predictor.initial_state(1))
    probabilities = np.exp(logits[0, -1]) / np.exp(logits[0, -1]).sum()
    order = np.argsort(-probabilities, kind="stable")
    special = (predictor.vocabulary.unknown_id, predictor.vocabulary.end_of_sentence_id)
    known = [index for index in order if index not in special][:5]
    suggestions = stream.suggest(5)
    assert [word for word, _ in suggestions] == [predictor.vocabulary.tokens[index] for index in known]
    np.testing.assert_allclose([probability for _, probability in suggestions], probabilities[known], rtol=1e-5)
    everything = stream.suggest(1000, allow_unknown=True)
    assert {word for word, _ in everything} == {*predictor.vocabulary.tokens} - {"<eos>"}
    ends = np.exp(stream.fork().score("\n").log_prob)
    assert sum(probability for _, probability in everything) + ends == pytest.approx(1)
    with pytest.raises(OptionError, match="the number of suggestions is 0, expected 1 or more"):
        stream.suggest(0)


def test_a_prefix_completes_the_word_being_typed(predictor: Predictor) -> None:
    stream = predictor.stream()
    stream.feed(PROMPT)
    suggestions = stream.suggest(1000, prefix="s")
    everything = {word: probability for word, probability in stream.suggest(1000) if word.startswith("s")}
    assert {word for word, _ in suggestions} == set(everything) == {"saw", "sold", "some", "stock", "shares"}
    assert sum(probability for _, probability in suggestions) == pytest.approx(1)
    for word, probability in suggestions:
        assert probability == pytest.approx(everything[word] / sum(everything.values()), rel=1e-6)
    assert [word for word, _ in suggestions] == sorted(everything, key=everything.__getitem__, reverse=True)
    assert stream.suggest(2, prefix="s") == suggestions[:2]
    assert stream.suggest(3, prefix="stock") == [("stock", 1.0)]
    assert stream.suggest(3, prefix="") == stream.suggest(3)
    for nothing in ("z", "S", "<", "stocks"):
        assert stream.suggest(3, prefix=nothing) == []
    for wrong in ("the s", " ", "s "):
        with pytest.raises(OptionError, match="expected the letters of one word"):
            stream.suggest(3, prefix=wrong)


def test_characters_are_fed_and_not_completed() -> None:
    characters = predictor_of(network_of((7, 3), vocabulary=5), ["\n", "\ufffd", "a", "b", " "], "characters")
    stream = characters.stream()
    with pytest.raises(OptionError, match="prefix is 'a', but this model reads characters"):
        stream.suggest(2, prefix="a")
    assert stream.suggest(9, prefix="") == stream.suggest(9)
    assert "\n" not in "".join(stream.generate(50, seed=1, stop="\n"))
    with pytest.raises(OptionError, match="stop holds 'ab'"):
        stream.generate(stop="ab")


@pytest.mark.parametrize("feeds", [["the cat", "saw the", "fish\na dog"], ["the", "cat saw the fish\na", "dog", ""]])
@pytest.mark.parametrize("look_between", [True, False])
def test_feeding_in_parts_equals_feeding_at_once(predictor: Predictor, feeds: list[str], look_between: bool) -> None:
    at_once, in_parts = predictor.stream(), predictor.stream()
    at_once.feed(PROMPT)
    for text in feeds:
        in_parts.feed(text)
        if look_between:
            in_parts.suggest(1)
    assert np.array_equal(at_once.logits(), in_parts.logits())


def test_a_long_text_runs_in_bounded_calls(predictor: Predictor) -> None:
    ids = np.random.default_rng(0).integers(0, len(predictor.vocabulary), 1500).tolist()
    stream = predictor.stream()
    stream.feed_ids(ids)
    start = predictor.vocabulary.end_of_sentence_id
    expected, _ = predictor.step([[start, *ids]], predictor.initial_state(1), logits_to_keep=1)
    assert stream.state.pending.shape[1] <= 512
    assert np.array_equal(stream.logits(), expected[0, 0])


def test_a_snapshot_continues_like_its_stream(predictor: Predictor) -> None:
    stream = predictor.stream()
    stream.feed(PROMPT)
    early = stream.state
    expected = stream.suggest(3)
    late = stream.state
    for state in (early, late, State.from_bytes(early.to_bytes()), State.from_bytes(late.to_bytes())):
        assert predictor.stream(state=state).suggest(3) == expected
    fork = predictor.stream(state=late)
    fork.feed("bought")
    assert stream.suggest(3) == expected


@pytest.mark.parametrize("cache", [None, CacheOptions(size=3)])
def test_a_fork_runs_nothing_again(
    own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch, cache: CacheOptions | None
) -> None:
    stream, whole = own_predictor.stream(cache=cache), own_predictor.stream(cache=cache)
    stream.feed(PROMPT)
    expected = stream.suggest(3)
    whole.feed(f"{PROMPT} bought the")
    whole_logits = whole.logits()
    fork, ran = stream.fork(), count_tokens(own_predictor, monkeypatch)
    assert fork.suggest(3) == expected
    assert ran == []
    stream.feed("liked some")
    assert stream.suggest(3) != expected
    assert fork.suggest(3) == expected
    ran.clear()
    fork.feed("bought the")
    np.testing.assert_allclose(fork.logits(), whole_logits, rtol=1e-5)
    assert sum(ran) == 2


def test_a_state_continues_in_another_process(predictor: Predictor, artifact_path: Path, tmp_path: Path) -> None:
    stream = predictor.stream()
    stream.feed(PROMPT)
    saved = tmp_path / "stream.state"
    saved.write_bytes(stream.state.to_bytes())
    code = (
        "import sys, pathlib; from lmtool.runtime import Predictor, State\n"
        "predictor = Predictor.load(sys.argv[1])\n"
        "stream = predictor.stream(state=State.from_bytes(pathlib.Path(sys.argv[2]).read_bytes()))\n"
        "print(''.join(stream.generate(12, seed=5)), end='')"
    )
    command = [sys.executable, "-c", code, str(artifact_path), str(saved)]
    elsewhere = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert elsewhere == "".join(stream.generate(12, seed=5))


def test_a_stream_from_a_stepped_state_needs_a_token_first(predictor: Predictor) -> None:
    _, state = predictor.step([[1, 2]], predictor.initial_state(1))
    stream = predictor.stream(state=state)
    with pytest.raises(StateError, match="nothing was fed since"):
        stream.suggest(1)
    stream.feed_ids([3])
    expected, _ = predictor.step([[1, 2, 3]], predictor.initial_state(1))
    assert np.array_equal(stream.logits(), expected[0, -1])
    with pytest.raises(StateError, match=r"expected float32 \[1, 7\]"):
        predictor.stream(state=predictor.initial_state(2))


def test_a_refused_token_is_not_fed(predictor: Predictor) -> None:
    stream = predictor.stream()
    before = stream.suggest(2)
    with pytest.raises(TokenError, match="token id -1"):
        stream.feed_ids([1, -1])
    assert stream.suggest(2) == before


def test_generated_pieces_join_to_the_decoded_text(predictor: Predictor) -> None:
    stream, replay = predictor.stream(), predictor.stream()
    text = "".join(stream.generate(40, seed=3))
    assert text == "".join(replay.generate(40, seed=3))
    ids = predictor.vocabulary.encode(text)
    assert len(ids) == 40
    assert predictor.vocabulary.decode(ids) == text
    assert predictor.vocabulary.unknown_id not in ids
    assert text != "".join(predictor.stream().generate(40, seed=4))


def test_generation_stops_before_the_end_of_the_sentence(predictor: Predictor) -> None:
    stream = predictor.stream()
    text = "".join(stream.generate(200, seed=3, stop_at_end_of_sentence=True))
    assert "\n" not in text
    longer = "".join(predictor.stream().generate(200, seed=3))
    assert longer.startswith(text + "\n")


def test_generation_stops_before_a_stop_token(predictor: Predictor) -> None:
    whole = "".join(predictor.stream().generate(60, seed=3))
    words = predictor.vocabulary.tokenization.split(whole)
    for stop in ("the", ["fish", "the"], "\n", "<eos>"):
        ids = {predictor.vocabulary.encode(text)[0] for text in ([stop] if isinstance(stop, str) else stop)}
        first = next(index for index, word in enumerate(words) if predictor.vocabulary.id(word) in ids)
        stream = predictor.stream()
        pieces = list(stream.generate(60, seed=3, stop=stop))
        assert len(pieces) == first
        assert whole.startswith("".join(pieces))
        same = predictor.stream()
        same.feed_ids(predictor.vocabulary.encode("".join(pieces)))
        assert np.array_equal(stream.logits(), same.logits())
    for unknown in ("zebra", "the fish", ""):
        with pytest.raises(OptionError, match=f"stop holds '{unknown}', which is no token"):
            predictor.stream().generate(stop=["the", unknown])


def test_a_penalty_stops_a_greedy_text_from_repeating(predictor: Predictor) -> None:
    def words_of(**options: float) -> list[str]:
        return [piece for piece in predictor.stream().generate(40, temperature=0, **options) if piece != "\n"]  # type: ignore[arg-type]

    assert words_of(repetition_penalty=1.0) == words_of()
    free, held, briefly = (
        words_of(),
        words_of(repetition_penalty=5.0),
        words_of(repetition_penalty=5.0, repetition_window=1),
    )
    assert len(set(held)) > len(set(free))
    assert held != briefly


@pytest.mark.parametrize("sizes", [[6], [1, 1, 1, 1, 1, 1], [2, 4]])
def test_a_seed_gives_one_text_however_the_prompt_was_fed(predictor: Predictor, sizes: list[int]) -> None:
    options = {"seed": 9, "top_k": 8, "top_p": 0.95, "temperature": 0.9, "repetition_penalty": 1.3}
    words = ["the", "cat", "saw", "the", "old", "market"]
    expected = predictor.stream()
    expected.feed(" ".join(words))
    stream = predictor.stream()
    for size in sizes:
        stream.feed(" ".join(words[:size]))
        del words[:size]
        stream.suggest(1)
    assert "".join(stream.generate(30, **options)) == "".join(expected.generate(30, **options))  # type: ignore[arg-type]


def test_greedy_generation_follows_the_best_suggestion(predictor: Predictor) -> None:
    for how in ({"temperature": 0.0}, {"method": "greedy"}, {"top_k": 1}):
        stream, guide = predictor.stream(), predictor.stream()
        stream.feed("the cat")
        guide.feed("the cat")
        for piece in stream.generate(8, **how):  # type: ignore[arg-type]
            best = predictor.vocabulary.token(int(np.argmax(guide.logits())))
            assert piece.strip(" ") == ("\n" if best == "<eos>" else best)
            guide.feed(piece)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0"),
        ({"method": "best"}, "sampling method 'best' is not known"),
        ({"max_tokens": -1}, "max_tokens is -1"),
        ({"repetition_penalty": 0.5}, "repetition_penalty is 0.5"),
    ],
)
def test_options_out_of_range_are_refused_at_once(
    predictor: Predictor, options: dict[str, object], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        predictor.stream().generate(**options)  # type: ignore[arg-type]


def test_state_bytes_that_are_damaged_are_refused(predictor: Predictor) -> None:
    stream = predictor.stream()
    stream.feed(PROMPT)
    data = stream.state.to_bytes()
    for position in range(0, len(data)):
        broken = bytearray(data)
        broken[position] ^= 0x10
        try:
            state = State.from_bytes(bytes(broken))
        except StateError:
            continue
        with pytest.raises(StateError):  # a flip in the model's hash is noticed where the state is used
            predictor.stream(state=state)
    for size in range(len(data)):
        with pytest.raises(StateError):
            State.from_bytes(data[:size])


def with_header(data: bytes, header: dict[str, object]) -> bytes:
    end = 12 + int.from_bytes(data[8:12], "little")
    encoded = json.dumps({**json.loads(data[12:end]), **header}).encode()
    return data[:8] + len(encoded).to_bytes(4, "little") + encoded + data[end:]


def test_a_header_with_unknown_keys_is_refused(predictor: Predictor) -> None:
    data = predictor.initial_state(1).to_bytes()
    assert State.from_bytes(with_header(data, {})).shapes == predictor.initial_state(1).shapes  # the positive control
    for header, message in (
        ({"x": 1}, r"its header has 'x', expected \['letters', 'model_sha256', 'partial', 'pending_shape', 'sha256', "),
        ({"letters": 1}, "its letters are 1, not text"),
        ({"cache_shapes": []}, "its header has 'cache_shapes'"),
        ({"x": [[]] * 1_500_000}, "its header is JSON of 6,000,"),
        ({"shapes": [[1, math.inf]]}, "its header is JSON with Infinity"),
    ):
        with pytest.raises(StateError, match=f"^no saved state: {message}"):
            State.from_bytes(with_header(data, header))
    for letters in ("a b", "a\n", "a" * 65):
        with pytest.raises(StateError, match="expected at most 64 without white space"):
            State.from_bytes(with_header(data, {"letters": letters}))


@given(data=st.binary(max_size=200))
def test_any_bytes_give_a_state_error(data: bytes) -> None:
    for prefix in (b"", b"lmstate1", b"lmstate1\x02\x00\x00\x00{}", b"lmstate2\x02\x00\x00\x00{}"):
        with pytest.raises(StateError):
            State.from_bytes(prefix + data)


@pytest.mark.parametrize(
    ("text", "more"), [("the cat ", "saw"), ("the cat\t", "saw"), ("the cat", " saw"), ("the cat\n", "saw")]
)
def test_no_space_follows_a_space(predictor: Predictor, text: str, more: str) -> None:
    never = [word for word in predictor.vocabulary.tokens if word not in ("saw", "<eos>", "<unk>")]
    stream = predictor.stream()
    stream.feed(text)
    for each in (stream, stream.fork()):
        pieces = list(each.generate(6, seed=1, never=never))
        assert pieces[0] in (more, "\n")
        assert set(pieces[1:]) <= {" saw", "saw", "\n"}
    stream.feed_ids([predictor.vocabulary.id("cat")])
    assert next(stream.generate(1, seed=1, never=never)) in (" saw", "\n")


def test_a_line_end_may_be_cut(predictor: Predictor) -> None:
    cut, whole = predictor.stream(), predictor.stream()
    for part in ("the cat\r", "", "\na dog", "\r", "the"):
        cut.feed(part)
    whole.feed("the cat\na dog\nthe")
    np.testing.assert_array_equal(cut.logits(), whole.logits())


def test_words_that_never_appear_are_neither_suggested_nor_written() -> None:
    tokens = ["<eos>", "<unk>", "Oh", "oh,", '"OH"', "ohm", "the", "c++", "c"]
    stream = predictor_of(network_of((7, 3), vocabulary=len(tokens)), tokens, "whitespace").stream()
    assert {word for word, _ in stream.suggest(20, never="oh")} == {"ohm", "the", "c++", "c"}
    assert {word for word, _ in stream.suggest(20, never=["C++", "zebra"])} == {"Oh", "oh,", '"OH"', "ohm", "the", "c"}
    assert stream.suggest(20, prefix="o", never=["oh"]) == [("ohm", 1.0)]
    written = "".join(stream.fork().generate(300, seed=2, never=["oh", "<eos>", "<unk>"], allow_unknown=True))
    assert {*written.split(" ")} & {"Oh", "oh,", '"OH"'} == set()
    assert "\n" in written
    assert "<unk>" in written
    for wrong in ("", "oh my", " oh"):
        with pytest.raises(OptionError, match="is not a word; expected words without white space"):
            stream.suggest(never=[wrong])
    marks = ["<eos>", "<unk>", "u.s", ",", "-"]
    stream = predictor_of(network_of((7, 3), vocabulary=len(marks)), marks, "words-2").stream()
    assert {word for word, _ in stream.suggest(9, never=["U.S.", "\u2060"])} == {",", "-"}
    characters = predictor_of(network_of((7, 3), vocabulary=3), ["\n", "\ufffd", "a"], "characters").stream()
    with pytest.raises(OptionError, match="reads characters and has no words"):
        characters.generate(never=["a"])

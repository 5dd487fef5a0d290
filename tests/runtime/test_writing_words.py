"""Texts by a model of parts of words: words that are never written, stops of any text, prompts that end in a space."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from lmtool.runtime import OptionError, Predictor, State, StreamPool, TextDecoder, Vocabulary
from lmtool.runtime.text.byte_alphabet import bytes_of
from lmtool.runtime.text.byte_pairs import pieces
from support.models.subwords import LOUD, LOUD_BYTES, WRITING_MERGES, bpe_artifact

NEVER = ["THE", "te", "h-", "é", "1", "o't"]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(bpe_artifact(WRITING_MERGES, (*LOUD, *LOUD_BYTES)))


@pytest.fixture(scope="module")
def pool(predictor: Predictor) -> Iterator[StreamPool]:
    with StreamPool(predictor) as pool:
        yield pool


def alone(predictor: Predictor, prompt: str, *arguments: Any, **options: Any) -> list[str]:
    stream = predictor.stream()
    stream.feed(prompt)
    return list(stream.generate(*arguments, **options))


def words_in(text: str, vocabulary: Vocabulary, after: int = 0) -> set[str]:
    """The words of NEVER in a text, whole pieces of the rule or several without white space, that end after a place."""
    is_word, forms = vocabulary.word_filter(NEVER), {word.casefold() for word in NEVER}
    found, ends = pieces(text), [0]
    for piece in found:
        ends.append(ends[-1] + len(piece))
    met = {piece.strip() for piece, end in zip(found, ends[1:], strict=True) if end > after and is_word(piece.strip())}
    for number, start in enumerate(ends):
        for end in ends[number + 2 : number + 5]:
            part = text[start:end].removeprefix(" ")
            if end > after and part.casefold() in forms:
                met.add(part)
    return met


def test_a_word_is_never_written_in_any_letter_case(predictor: Predictor) -> None:
    met: set[str] = set()
    for seed in range(28):
        prompt = ("", "the t", "th", "h", "o'", "a ", "é")[seed % 7]
        met |= words_in("".join([prompt, *alone(predictor, prompt, 60, seed=seed)]), predictor.vocabulary, len(prompt))
        text = "".join([prompt, *alone(predictor, prompt, 60, seed=seed, never=NEVER)])
        assert words_in(text, predictor.vocabulary, len(prompt)) == set()
    assert {word.casefold() for word in met} == {word.casefold() for word in NEVER}  # the positive control


def test_what_is_ruled_out_is_what_completes_a_word(predictor: Predictor) -> None:
    """After any bytes: by the definition, which splits the whole text with each token."""
    vocabulary, random = predictor.vocabulary, np.random.default_rng(1)
    barred = vocabulary.barred_words(NEVER)
    assert barred is not None
    loud = [vocabulary.id(token) for token in (*LOUD, *LOUD_BYTES)]
    completed = 0
    for size in [*range(5)] * 30:
        ids = random.choice(loud, size).tolist()
        text, data = TextDecoder(vocabulary), b"".join(bytes_of(vocabulary.token(index)) for index in ids)
        size = sum(len(text.add(index)) for index in ids)
        for index in [*random.choice(len(vocabulary), 40).tolist(), *loud]:
            longer = data + bytes_of(vocabulary.token(index))
            met = words_in(longer.decode(errors="replace"), vocabulary, size)
            assert (index in barred.after(text)) == bool(met), (longer, met)
            completed += bool(met)
    assert completed > 100


def test_a_longer_word_stays_possible(predictor: Predictor) -> None:
    texts = ["".join(alone(predictor, "t ", 60, seed=seed, never="the")) for seed in range(10)]
    assert any("theory" in text for text in texts)


def test_jobs_and_parts_write_what_a_stream_writes_alone(predictor: Predictor, pool: StreamPool) -> None:
    ways: list[dict[str, Any]] = [
        {"never": NEVER},
        {"never": NEVER, "temperature": 0},
        {"never": NEVER, "top_p": 0.8, "repetition_penalty": 1.3},
        {"stop": ["the", "h-", "\n"]},
        {"stop": "éé", "never": "the", "top_k": 9},
        {"stop_at_end_of_sentence": True},
        {"method": "weighted-at-boundaries", "never": "the", "temperature": 2},
    ]
    cases = [
        (prompt, {**way, "seed": number})
        for number, way in enumerate(ways)
        for prompt in ("", "t", "the ", "the  ", "t\n ", " ", "th", "h", "1 - ")
    ]
    jobs = [pool.generate(prompt, 20, **options) for prompt, options in cases]
    for job, (prompt, options) in zip(jobs, cases, strict=True):
        expected = alone(predictor, prompt, 20, **options)
        assert list(job) == expected
        assert job.result() == "".join(expected)
        stream = predictor.stream()
        stream.feed(prompt)
        saved = State.from_bytes(stream.state.to_bytes())
        assert list(predictor.stream(saved).generate(20, **options)) == expected
        assert list(pool.generate([], 20, state=saved, **options)) == expected


def test_a_word_is_not_written_in_parts_either(predictor: Predictor) -> None:
    for seed in range(3):
        whole, parts = predictor.stream(), predictor.stream()
        expected = list(whole.generate(40, seed=seed, top_k=1, never=NEVER))
        pieces_of_parts: list[str] = []
        for _ in range(40):
            pieces_of_parts += parts.generate(1, top_k=1, never=NEVER)
            parts = predictor.stream(State.from_bytes(parts.state.to_bytes()))
        assert pieces_of_parts == expected


def test_a_stop_is_any_text(predictor: Predictor, pool: StreamPool) -> None:
    within = 0
    for seed in range(6):
        whole = alone(predictor, "", 40, seed=seed)
        text = "".join(whole)
        for stop in (*(text[start:end] for start, end in ((9, 10), (12, 14), (17, 22), (25, 37))), "zz"):
            found = text.find(stop)
            stream = predictor.stream()
            written = "".join(stream.generate(40, seed=seed, stop=[stop, "zzz"]))
            assert written == (text if found < 0 else text[:found])
            job = pool.generate("", 40, seed=seed, stop=[stop, "zzz"])
            assert job.result() == written
            assert job.finish_reason == ("length" if found < 0 else "stop")
            kept = predictor.vocabulary.decode(job.tokens).removesuffix("\ufffd")
            within += kept != written
            assert written.startswith(kept)
            again = predictor.stream()
            again.feed_ids(job.tokens)  # the stream goes on after the last token that was written in full
            assert np.array_equal(stream.logits(), again.logits())
    assert within > 3  # stops that end the text within a token
    with pytest.raises(OptionError, match="stop holds an empty text"):
        predictor.stream().generate(stop=["a", ""])


def test_text_that_may_begin_a_stop_is_held_back(predictor: Predictor) -> None:
    whole = alone(predictor, "", 100, seed=3)
    held = alone(predictor, "", 100, seed=3, stop="the theory of")
    assert "".join(held) == "".join(whole)
    assert len(held) == len(whole)
    assert held.count("") > whole.count("")


def test_a_prompt_that_ends_in_a_space_is_continued_by_a_word_that_begins_with_it(
    predictor: Predictor, pool: StreamPool
) -> None:
    vocabulary = predictor.vocabulary
    spaced = [index for index, token in enumerate(vocabulary.tokens) if token.startswith("Ġ")]
    for prompt, before in (("the ", "the"), ("the  ", "the "), ("\n ", "\n"), (" ", "")):
        stream, place = predictor.stream(), predictor.stream()
        stream.feed(prompt)
        place.feed_ids(vocabulary.encode(before))
        logits = place.logits()[spaced].astype(np.float64)
        shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        expected = {vocabulary.decode([index])[1:]: share for index, share in zip(spaced, shares, strict=True)}
        jobs = [pool.generate(prompt, 1, seed=seed) for seed in range(400)]
        drawn = [job.result() for job in jobs]
        assert set(drawn) <= set(expected)
        for text, share in expected.items():
            assert drawn.count(text) / 400 == pytest.approx(share, abs=0.08)
        assert next(stream.generate(1, temperature=0)) == max(expected, key=expected.__getitem__)


def test_a_space_that_was_drawn_is_not_taken() -> None:
    """The parts of a text are the whole text, also where one ends in a space: only that of a prompt is taken."""
    predictor = Predictor.load(bpe_artifact(WRITING_MERGES, ("\u0120",)))
    for prompt in ("t", "the "):
        stream, parts = predictor.stream(), []
        stream.feed(prompt)
        for _ in range(30):
            parts += stream.generate(1, temperature=0)
        assert parts == alone(predictor, prompt, 30, temperature=0)
        assert " " in parts


@pytest.mark.parametrize("loud", ["the", ".,-\u0120"])
def test_tokens_are_drawn_where_a_word_begins_and_the_most_probable_inside(loud: str) -> None:
    """Networks whose most probable token always goes on with a word, or never does."""
    predictor = Predictor.load(bpe_artifact(WRITING_MERGES, loud))
    vocabulary, drawn = predictor.vocabulary, set()
    for seed in range(6):
        stream, writer = predictor.stream(), predictor.stream()
        for text in (stream, writer):
            text.feed("the-th"[: 2 + seed % 5])
        for _ in writer.generate(20, seed=seed, method="weighted-at-boundaries"):
            best, token = int(stream.logits().argmax()), int(writer.state.pending[0, -1])
            if not vocabulary.is_boundary(stream.state.pending[0, -1]):
                drawn.add(vocabulary.token(token))
                assert token == best or loud != "the"
            stream.feed_ids([token])
    assert drawn <= set("the") if loud == "the" else drawn >= set(loud)
    assert not any(vocabulary.inside_words[vocabulary.id(token)] for token in drawn if loud != "the")

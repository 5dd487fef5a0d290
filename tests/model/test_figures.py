"""Bits per byte and perplexity a word: what they count, and that they agree between text, ids and corpora."""

import math
import random
from pathlib import Path

import pytest
from lmtool.model import load_corpus, load_corpus_with
from lmtool.runtime import Predictor
from lmtool.runtime.text.text_size import TextCounter, TextSize
from support.models.networks import network_of, predictor_of


def test_a_size_counts_bytes_words_and_newlines() -> None:
    assert TextSize.of(" the café\n\n  said\r\n") == TextSize(bytes=20, words=6)
    assert TextSize.of("") == TextSize()
    assert TextSize(8, 2).bits_per_byte(-8 * math.log(2)) == 1.0
    assert TextSize(8, 2).word_perplexity(-2 * math.log(10)) == pytest.approx(10)
    assert (TextSize().bits_per_byte(0.0), TextSize().word_perplexity(0.0)) == (0.0, 1.0)
    assert TextSize(1, 1).word_perplexity(-1e6) == math.inf


def test_chunks_are_counted_like_the_whole_text() -> None:
    draw = random.Random(1)
    for _ in range(200):
        text = "".join(draw.choices(["a", "é", " ", "\n", "\u3000", "日"], k=20))
        counter, rest = TextCounter(), text
        while rest:
            size = draw.randrange(4)
            counter.add(rest[:size])
            rest = rest[size:]
        assert counter.size == TextSize.of(text)


@pytest.mark.parametrize("rule", ["whitespace", "words-2", "characters", "bpe"])
def test_a_corpus_has_the_figures_of_its_text_after_the_first_token(tmp_path: Path, rule: str) -> None:
    texts = {"train": "a b\na c b\n", "valid": "b zebra a\nb\n", "test": "a a b\n"}
    for split, text in texts.items():
        (tmp_path / f"{split}.txt").write_text(text)
    corpus = load_corpus(str(tmp_path), rule, vocabulary_size=260 if rule == "bpe" else None)
    vocabulary = corpus.vocabulary
    network = network_of((7, 3), vocabulary=len(vocabulary))
    predictor = predictor_of(network, list(vocabulary.tokens), vocabulary.tokenization)
    figures = corpus.figures("valid", predictor.perplexity(corpus.ids["valid"]))
    # The stream of an evaluation reads the first token, here `b`, from the zero state.
    score = predictor.score(texts["valid"][1:], context=corpus.ids["valid"][:1].tolist())
    assert figures.bits_per_byte == pytest.approx(score.bits_per_byte, rel=1e-5)
    words = 5 if corpus.vocabulary.tokenization.unit == "word" else 6
    assert figures.word_perplexity == pytest.approx(math.exp(-score.log_prob / words), rel=1e-4)
    again = load_corpus_with(str(tmp_path), corpus.vocabulary)
    assert again.figures("valid", 7.0) == corpus.figures("valid", 7.0)
    assert again.figures("all", 7.0).bits_per_byte > 0


def test_word_perplexity_is_that_of_tokens_where_tokens_are_words(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("the cat <unk> a dog\nthe dog\n")
    corpus = load_corpus(str(tmp_path), "whitespace")
    assert corpus.figures("test", 50.0).word_perplexity == pytest.approx(50.0)


def test_a_score_counts_the_text_as_it_was_given(predictor: Predictor) -> None:
    score = predictor.score("  The  CAT zzz\n")
    assert score.size == TextSize(15, 4)
    assert score.bits_per_byte == pytest.approx(-score.log_prob / math.log(2) / 15)
    assert next(iter(predictor.scores(["  The  CAT zzz\n", "a"]))).size == score.size
    assert predictor.score([2, 3]).size == TextSize.of(predictor.vocabulary.decode([2, 3]))
    assert {"bits_per_byte", "word_perplexity"} <= score.to_json().keys()

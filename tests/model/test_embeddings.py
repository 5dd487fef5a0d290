"""Word vectors: nearest words, and their map."""

from pathlib import Path

import numpy as np
import pytest
from lmtool.model import DataError, Run
from lmtool.model.embedding_map import draw_embedding_map
from lmtool.model.embeddings import Embeddings
from lmtool.runtime import OptionError, StorageError, Tokenization, Vocabulary
from matplotlib.image import imread

SPECIALS = ["<eos>", "<unk>"]


def of_words(words: dict[str, list[float]]) -> Embeddings:
    """Embeddings of words; the special tokens have the vector of the first word."""
    first = next(iter(words.values()))
    vocabulary = Vocabulary([*SPECIALS, *words], Tokenization())
    return Embeddings(vocabulary, np.array([first, first, *words.values()], dtype=np.float32))


def random_words(words: list[str], width: int = 5) -> Embeddings:
    rows = np.random.default_rng(1).normal(size=(len(words), width))
    return of_words({word: list(row) for word, row in zip(words, rows, strict=True)})


BY_HAND = of_words(
    {"the": [1, 0], "a": [30, 40], "zero": [0, 0], "cat": [0, 5], "dog": [-2, 0], "an": [0.3, 0.4], "Odd": [-1, -1]}
)


def test_a_word_of_subwords_is_its_token_after_a_space() -> None:
    tokenization = Tokenization.of_rule("bpe", ["a t", "Ġ at"])
    rows = np.random.default_rng(1).normal(size=(len(tokenization.required), 5)).astype(np.float32)
    vocabulary = Vocabulary(tokenization.required, tokenization)
    rows[vocabulary.id("at")] = rows[vocabulary.id("Ġat")]
    embeddings = Embeddings(vocabulary, rows)
    assert embeddings.nearest("at", 1) == [("at", pytest.approx(1))]
    assert embeddings.nearest("b", 1)[0].word != "b"
    with pytest.raises(OptionError, match="'bat' is not among the 259 subwords"):
        embeddings.nearest("bat")


def test_nearest_words_have_the_smallest_angle() -> None:
    neighbours = BY_HAND.nearest("the")
    assert [word for word, _ in neighbours] == ["a", "an", "zero", "cat", "Odd", "dog"]
    assert [similarity for _, similarity in neighbours] == pytest.approx([0.6, 0.6, 0, 0, -(0.5**0.5), -1])
    assert BY_HAND.nearest("a", 2) == [("an", pytest.approx(1)), ("cat", pytest.approx(0.8))]
    assert BY_HAND.nearest("<unk>", 1) == [("the", pytest.approx(1))]


def test_frequent_words_are_sorted_by_id_without_special_tokens() -> None:
    assert BY_HAND.frequent(2) == [2, 3]
    assert BY_HAND.frequent() == [2, 3, 4, 5, 6, 7, 8]


def test_error_for_an_unknown_word_suggests_spellings() -> None:
    with pytest.raises(OptionError, match=r"'Cats' is not among the 9 words of the vocabulary; .*spellings: 'cat'$"):
        BY_HAND.nearest("Cats")
    with pytest.raises(OptionError, match="nearest spellings: 'Odd'"):
        BY_HAND.nearest("odd")
    with pytest.raises(OptionError, match="none is spelled like it"):
        BY_HAND.nearest("")
    with pytest.raises(OptionError, match="count is 0, expected 1 or more"):
        BY_HAND.nearest("cat", 0)


def test_vectors_of_a_run_are_from_its_best_weights(run: Run) -> None:
    embeddings = Embeddings.of_run(run)
    network, _ = run.trained()
    assert embeddings.vectors.shape == (len(run.vocabulary()), 5)
    token = run.vocabulary().id("cat")
    np.testing.assert_array_equal(embeddings.vectors[token], network.embedding.weight[token].detach().numpy())


@pytest.mark.parametrize("count", [4, 5, 40])
@pytest.mark.parametrize("width", [1, 5])
def test_a_map_of_few_words_is_drawn(tmp_path: Path, count: int, width: int) -> None:
    embeddings = random_words([f"word{index}" for index in range(count)], width)
    assert draw_embedding_map(embeddings, tmp_path / "map.png") == count
    height, width, _ = imread(tmp_path / "map.png").shape
    assert width > height > 500


def test_equal_vectors_are_drawn(tmp_path: Path) -> None:
    assert draw_embedding_map(of_words({f"word{index}": [1, 2] for index in range(20)}), tmp_path / "map.png") == 20


def test_the_same_seed_draws_the_same_map(tmp_path: Path) -> None:
    embeddings = random_words([f"word{index}" for index in range(30)])
    pictures = []
    for name, seed, words in (("a", 1, 20), ("b", 1, 20), ("c", 2, 20), ("d", 1, 21)):
        assert draw_embedding_map(embeddings, tmp_path / f"{name}.png", words, seed) == words
        pictures.append((tmp_path / f"{name}.png").read_bytes())
    assert pictures[0] == pictures[1]
    assert len(set(pictures)) == 3


@pytest.mark.filterwarnings("ignore::lmtool.model.fonts.GlyphWarning")  # fonts differ from machine to machine
def test_unusual_words_are_drawn(tmp_path: Path) -> None:
    words = ["$x_", "$", "\\frac$", "\u65e5\u672c", "\t", "\U0001f600", "_", "%"]
    assert draw_embedding_map(random_words(words), tmp_path / "map.png") == len(words)


def test_errors_of_the_map(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    embeddings = random_words(["the", "cat", "sat", "on"])
    with pytest.raises(OptionError, match="words is 3, expected 4 or more"):
        draw_embedding_map(embeddings, path, words=3)
    with pytest.raises(OptionError, match="seed is -1, expected 0 to 4294967295"):
        draw_embedding_map(embeddings, path, seed=-1)
    with pytest.raises(DataError, match="holds 3 words beside its special tokens, a map needs 4 or more"):
        draw_embedding_map(random_words(["the", "cat", "sat"]), path)
    with pytest.raises(StorageError, match="cannot write .*none"):
        draw_embedding_map(embeddings, tmp_path / "none" / "map.png")
    assert list(tmp_path.iterdir()) == []

"""The search for whole words by a model of parts of words: proven by enumeration of all words."""

import re
import time
from functools import cache

import numpy as np
import pytest
import torch
from lmtool.runtime import Autocompletion, CacheOptions, OptionError, Predictor, State, Tokenization
from lmtool.runtime.text.byte_alphabet import bytes_of
from lmtool.runtime.text.byte_pairs import PIECE
from lmtool.runtime.word_search import nodes, search
from support.models.networks import artifact_of, network_of
from support.models.subwords import DOUBLING_MERGES, bpe_artifact

ALPHABET = "ab'.1 "
MERGES = ["a b", "Ġ a", "Ġ ab", "Ġ b", "ab a", "' a", ". .", "b b", "1 1"]
SMALLEST = 3e-5


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """A random network that writes few characters."""
    tokenization = Tokenization.of_rule("bpe", MERGES)
    tokens = list(tokenization.required)
    network = network_of((7, 3), vocabulary=len(tokens))
    rare = [set(bytes_of(token).decode("latin-1")) - set(ALPHABET + "\n") != set() for token in tokens]
    with torch.no_grad():
        network.projection.bias[torch.tensor(rare)] = -12
        network.projection.bias[torch.tensor(rare).logical_not()] += torch.linspace(-2, 1, len(rare) - sum(rare))
    return Predictor.load(artifact_of(network, tokens, tokenization))


class Words:
    """All words after a text by their definition: the text that follows is cut by the rule's regular expression."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.vocabulary = predictor, predictor.vocabulary
        self.distribution = cache(self._distribution)
        self.token_texts = [bytes_of(token).decode("latin-1") for token in self.vocabulary.tokens]
        self.unknown = self.vocabulary.unknown_id
        self.known = [
            index for index, text in enumerate(self.token_texts) if text.strip(ALPHABET) == "" and index != self.unknown
        ]

    def _distribution(self, ids: tuple[int, ...]) -> np.ndarray:
        start = self.vocabulary.end_of_sentence_id
        logits, _ = self.predictor.step([[start, *ids]], self.predictor.initial_state(1), logits_to_keep=1)
        weights = np.exp(logits[0, -1].astype(np.float64) - logits.max())
        return weights / weights.sum()

    def after(self, text: str) -> dict[str, float]:
        """Each piece that may follow, and its probability; those above SMALLEST."""
        found: dict[str, float] = {}
        self._collect(tuple(self.vocabulary.encode(text)), (), 1.0, found)
        return found

    def _collect(self, before: tuple[int, ...], path: tuple[int, ...], chance: float, found: dict[str, float]) -> None:
        text = "".join(self.token_texts[index] for index in path)
        distribution = self.distribution((*before, *path))
        if path and text != " ":
            goes_on = [self._goes_on(path, text, index, token) for index, token in enumerate(self.token_texts)]
            ended = float(distribution[np.logical_not(goes_on)].sum())
            word = text.removesuffix("'") if self._is_open(text) else text
            found[word] = found.get(word, 0.0) + chance * ended
        for index in self.known:
            share = chance * float(distribution[index])
            if share > SMALLEST and (not path or self._goes_on(path, text, index, self.token_texts[index])):
                longer = text + self.token_texts[index]
                whole = longer if self._is_open(longer) else first_piece(longer)
                if whole == longer and self._is_written((*path, index), longer):
                    self._collect(before, (*path, index), share, found)

    def _is_open(self, text: str) -> bool:
        return re.fullmatch(" ?[ab]+'", text) is not None

    def _goes_on(self, path: tuple[int, ...], text: str, index: int, token: str) -> bool:
        """Whether a token makes a word longer; an apostrophe may."""
        if index == self.unknown:
            return False
        if token == "'" and re.fullmatch(" ?[ab]+", text):
            return self._is_written((*path, index), f"{text}'")
        return len(first_piece(text + token)) > len(text)

    def _is_written(self, ids: tuple[int, ...], piece: str) -> bool:
        if self._is_open(piece):  # it is a piece if a letter follows
            return self.vocabulary.tokenization.is_subword(*map(self.vocabulary.token, ids))
        return self.vocabulary.encode(piece) == list(ids)

    def share_of(self, text: str, letters: str) -> float:
        """The probability that a text goes on with these letters, written in tokens in any way."""
        ids, total = tuple(self.vocabulary.encode(text)), 0.0
        for size in range(len(letters)):
            path = tuple(self.vocabulary.encode(letters[:size]))
            if size and self.vocabulary.decode(path) != letters[:size]:
                continue
            chance = 1.0
            for place, index in enumerate(path):
                chance *= float(self.distribution((*ids, *path[:place]))[index])
            rest = letters[size:]
            total += chance * sum(
                float(share)
                for share, token in zip(self.distribution((*ids, *path)), self.token_texts, strict=True)
                if token.startswith(rest)
            )
        return total


def first_piece(text: str) -> str:
    found = re.match(PIECE, text)
    assert found is not None
    return found[0]


def best(words: dict[str, float], count: int) -> list[tuple[str, float]]:
    return sorted(words.items(), key=lambda entry: -entry[1])[:count]


def assert_same(found: list[tuple[str, float]], expected: list[tuple[str, float]], rel: float = 1e-4) -> None:
    assert [word for word, _ in found] == [word for word, _ in expected]
    assert [chance for _, chance in found] == pytest.approx([chance for _, chance in expected], rel=rel)


@pytest.fixture(scope="module")
def words(predictor: Predictor) -> Words:
    return Words(predictor)


def expected_words(words: Words, text: str, letters: str) -> dict[str, float]:
    """The words after a text that begin with these letters, by their definition; without the space before them."""
    total = words.share_of(text, letters)
    return {
        word.removeprefix(" "): chance / total for word, chance in words.after(text).items() if word.startswith(letters)
    }


CASES = [("ab", " "), ("a b.", " a"), ("ab\n", "ab"), ("ab", " b'"), ("1", " .")]


@pytest.mark.parametrize(("text", "letters"), CASES)
def test_the_list_is_that_of_an_enumeration_of_all_words(
    predictor: Predictor, words: Words, text: str, letters: str
) -> None:
    stream = predictor.stream()
    stream.feed(text + (" " if letters.startswith(" ") else ""))
    found = stream.next_words(4, prefix=letters.strip())
    assert found.exact
    assert_same(found.words, best(expected_words(words, text, letters), 4))
    assert stream.suggest(4, prefix=letters.strip()) == found.words


def test_a_list_that_is_pruned_too_early_is_not_that_of_the_enumeration(
    predictor: Predictor, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = predictor.stream()
    stream.feed("ab ")
    expected = best(expected_words(words, "ab", " "), 6)
    assert_same(stream.suggest(6), expected)
    for module in (nodes, search):
        monkeypatch.setattr(module, "RARE", 0.2)
    monkeypatch.setattr(search, "ROWS", 1)
    assert_same(stream.suggest(6), expected)
    monkeypatch.setattr(search._Tokens, "_add_rare", lambda self: setattr(self, "_with_rare", True))
    assert [word for word, _ in stream.suggest(6)] != [word for word, _ in expected]


def test_a_line_is_completed_within_the_word_and_after_it(predictor: Predictor, words: Words) -> None:
    letters, total = "ab", words.share_of("1\n", "ab")
    rests = {word[2:]: chance / total for word, chance in words.after("1\n").items() if word.startswith("ab")}
    rests = {rest: chance for rest, chance in rests.items() if rest and not rest.startswith("'")}
    (typed,) = words.vocabulary.encode(letters)
    whole = float(words.distribution(tuple(words.vocabulary.encode("1\n")))[typed]) / total
    nexts = {word: whole * chance for word, chance in words.after("1\nab").items() if not re.match("[ab']", word)}
    autocompletion = Autocompletion(predictor, 12)
    autocompletion.end_line("1")
    for line in ("", "a", letters):
        found = autocompletion.suggestions(line)
    assert autocompletion.exact
    assert all(entry.start == 0 and (letters + entry.text).endswith(entry.shown) for entry in found)
    shares = [(entry.text, entry.probability) for entry in found if not entry.text.startswith("'")]
    assert_same(shares[:8], best({**rests, **nexts}, 8))


def test_the_space_that_was_fed_is_that_of_the_next_word(predictor: Predictor) -> None:
    at_once, apart = predictor.stream(), predictor.stream()
    at_once.feed("a b ")
    for text in ("a", " b", " "):
        apart.feed(text)
        apart.suggest(3)
    expected = at_once.suggest(5)
    assert_same(apart.suggest(5), expected)
    assert_same(predictor.stream(State.from_bytes(apart.state.to_bytes())).suggest(5), expected)
    scored = predictor.stream()
    assert scored.score("a b ").token_log_probs == pytest.approx(predictor.score("a b ").token_log_probs)
    assert_same(scored.suggest(5), expected)
    before = predictor.stream()
    before.feed("a b")
    total = before.suggest(5, prefix="a")
    assert_same(at_once.suggest(5, prefix="a"), total)
    assert sum(chance for _, chance in before.suggest(5)) < sum(chance for _, chance in expected)


def test_a_search_that_was_cut_says_so(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    many = predictor.stream().next_words(10**6)
    assert not many.exact
    assert 100 < len(many.words) < 2048 * 2
    monkeypatch.setattr(search, "_MOST_PATHS", 30)
    monkeypatch.setattr(search, "_PATHS_PER_WORD", 0)
    autocompletion = Autocompletion(predictor, 40)
    assert autocompletion.suggestions("a b")
    assert not autocompletion.exact


def test_a_keystroke_runs_few_paths_and_kept_ones_not_again(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    run_rows = predictor.network.run_rows
    monkeypatch.setattr(
        predictor.network, "run_rows", lambda ids, tensors: (rows.append(len(ids)), run_rows(ids, tensors))[1]
    )
    line, autocompletion = "ab ab'a 11 .", Autocompletion(predictor, 3)
    expected = {line[:end]: autocompletion.suggestions(line[:end]) for end in range(len(line) + 1)}
    assert max(rows) <= search.ROWS
    rows.clear()
    for end in range(len(line), -1, -1):
        assert autocompletion.suggestions(line[:end]) == expected[line[:end]]
    assert rows == []
    for part, entries in expected.items():
        fresh = Autocompletion(predictor, 3).suggestions(part)
        assert [entry.text for entry in fresh] == [entry.text for entry in entries]


ODD = ["x" * 10_000, "\0", "a\ud800", "😀", "é", "a'", "'", "  ", "a\tb", "a'b'c", "Ġ", "\n"]


@pytest.mark.parametrize("line", ODD)
def test_odd_lines_have_suggestions_that_are_text(predictor: Predictor, line: str) -> None:
    for entry in Autocompletion(predictor, 4).suggestions(line):
        assert entry.text
        assert "\ufffd" not in entry.text
        assert 0 <= entry.probability <= 1
    for word, _ in predictor.stream().suggest(4, prefix="".join(line.split())):
        word.encode()


def test_long_words_are_cut_between_characters(predictor: Predictor) -> None:
    assert all(word.startswith("日" * 11) for word, _ in predictor.stream().suggest(3, prefix="日" * 11))
    assert predictor.stream().suggest(3, prefix="日" * 11)


def test_words_that_never_appear_are_not_suggested(predictor: Predictor) -> None:
    stream = predictor.stream()
    stream.feed("ab ")
    words = [word for word, _ in stream.suggest(4)]
    hidden = stream.suggest(4, never=[words[0].upper(), words[2]])
    assert [word for word, _ in hidden][:2] == [words[1], words[3]]
    assert words[0] not in {entry.shown for entry in Autocompletion(predictor, 9, never=words[0]).suggestions("ab ")}
    is_hidden = predictor.vocabulary.word_filter([".", "cat"])
    assert [is_hidden(word) for word in (".", ",", "!?", "Cat,")] == [True, False, False, True]
    with pytest.raises(OptionError, match="is not a word"):
        stream.suggest(4, never=["a b"])
    with pytest.raises(OptionError, match="the number of suggestions is 0"):
        stream.next_words(0)
    with pytest.raises(OptionError, match="expected the letters of one word"):
        stream.suggest(4, prefix="a b")


def test_a_stream_with_a_cache_suggests_by_its_mixture(predictor: Predictor) -> None:
    plain, cached = predictor.stream(), predictor.stream(cache=CacheOptions(size=50, weight=0.9))
    for stream in (plain, cached):
        stream.feed("11 ab ab ab ab ab ab ")
    ratio = dict(cached.suggest(20))["ab"] / dict(plain.suggest(20))["ab"]
    assert ratio > 2


def test_tokens_that_no_text_has_take_no_time() -> None:
    predictor = Predictor.load(bpe_artifact(DOUBLING_MERGES, ["a", "aa", "a" * 32, "a" * 2**17]))
    begun = time.perf_counter()
    words = [word for word, _ in predictor.stream().suggest(50)]
    assert time.perf_counter() - begun < 5  # a tenth of a second; minutes if such tokens are merged from their bytes
    assert "a" * 32 in words
    assert max(map(len, words)) <= 64

"""Suggestions for a line that is being typed, and the number of tokens run for them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmtool.runtime import OptionError, Predictor, Tokenization
from lmtool.runtime.autocompletion import Autocompletion
from lmtool.runtime.suggestions import Suggestion
from support.models.networks import count_tokens, network_of, predictor_of

WORDS = ["<eos>", "<unk>", "the", "(", ")", ".", "foo", "for", "os.path", "don't", "don"]
CHARACTERS = ["\n", "\ufffd", "a", "b", " ", "'", "\t"]


@pytest.fixture(scope="module")
def words() -> Predictor:
    return predictor_of(network_of((7, 3), vocabulary=len(WORDS)), WORDS, "words")


@pytest.fixture(scope="module")
def characters() -> Predictor:
    return predictor_of(network_of((7, 3), vocabulary=len(CHARACTERS)), CHARACTERS, "characters")


Shares = list[tuple[str, float]]
"""Tokens with their probabilities."""


def suggested(predictor: Predictor, read: str, prefix: str | None = None, count: int = 4) -> Shares:
    """The suggestions of a stream that has read this."""
    stream = predictor.stream()
    stream.feed(read)
    return stream.suggest(count, prefix=prefix)


def assert_shown(suggestions: list[Suggestion], expected: Shares) -> None:
    assert [entry.shown for entry in suggestions] == [token for token, _ in expected]
    assert [entry.probability for entry in suggestions] == pytest.approx([share for _, share in expected], rel=1e-4)


@pytest.mark.parametrize("line", ["", " ", "the ", "the cat saw  ", "the cat\nthe "])
def test_next_words_are_suggested_after_white_space(predictor: Predictor, line: str) -> None:
    suggestions = Autocompletion(predictor, 4).suggestions(line)
    expected = suggested(predictor, line)
    assert_shown(suggestions, expected)
    assert [(entry.text, entry.start) for entry in suggestions] == [(word, 0) for word, _ in expected]


@pytest.mark.parametrize(("read", "letters"), [("", "t"), ("the cat ", "s"), ("the zebra\na ", "do"), ("the ", "zz")])
def test_letters_are_completed(predictor: Predictor, read: str, letters: str) -> None:
    suggestions = Autocompletion(predictor, 4).suggestions(read + letters)
    expected = suggested(predictor, read, letters)
    assert_shown(suggestions, expected)
    assert [(entry.text, entry.start) for entry in suggestions] == [(word, -len(letters)) for word, _ in expected]


@pytest.mark.parametrize(
    ("line", "read", "prefix", "texts"),
    [
        ("(fo", "(", "fo", {"foo", "for"}),
        ("THE Fo", "the", "fo", {"Foo", "For"}),
        ("os.", "", "os.", {"os.path"}),
        ("don'", "", "don'", {"don't"}),
        ("foo.", "foo .", None, {")", ".", " the", " (", " foo", " for", " os.path", " don't", " don"}),
        ("foo(", "foo (", None, {")", ".", "the", "(", "foo", "for", "os.path", "don't", "don"}),
        ("foo[", "foo [", None, {")", ".", "the", "(", "foo", "for", "os.path", "don't", "don"}),
        ("zz", "", "zz", set()),
    ],
)
def test_punctuation_is_a_token_or_part_of_a_word(
    words: Predictor, line: str, read: str, prefix: str | None, texts: set[str]
) -> None:
    suggestions = Autocompletion(words, 20).suggestions(line)
    assert {entry.text for entry in suggestions} == texts
    assert_shown(suggestions, suggested(words, read, prefix, 20))


def test_next_characters_are_suggested(characters: Predictor) -> None:
    autocompletion = Autocompletion(characters, 4)
    for line in ("", "a", "ab a", "ab' "):
        expected = suggested(characters, line)
        suggestions = autocompletion.suggestions(line)
        assert_shown(suggestions, [(repr(character), share) for character, share in expected])
        assert [(entry.text, entry.start) for entry in suggestions] == [(character, 0) for character, _ in expected]


ODD = st.text(st.sampled_from("fotheFOdn'.-(<unk>\ud800\u0130\u0301\u6f22\U0001f600 \n\x1c\x00"), max_size=12)


@settings(max_examples=60, derandomize=True)
@given(lines=st.lists(ODD, max_size=3))
@pytest.mark.parametrize("name", ["predictor", "words", "characters"])
def test_a_suggestion_adds_its_token_to_any_text(request: pytest.FixtureRequest, name: str, lines: list[str]) -> None:
    predictor = request.getfixturevalue(name)
    autocompletion = Autocompletion(predictor, 20, allow_unknown=True)
    for line in lines:
        for end in range(len(line) + 1):
            for entry in autocompletion.suggestions(line[:end]):
                assert_adds_its_token(entry, line[:end], predictor.vocabulary.tokenization)
        autocompletion.end_line(line)


def assert_adds_its_token(entry: Suggestion, line: str, tokenization: Tokenization) -> None:
    completed = line[: len(line) + entry.start] + entry.text
    before = tokenization.split_unfinished(line)[0] if entry.start else tokenization.split(line)
    token = entry.text if tokenization.unit == "char" else entry.shown
    assert tokenization.split(completed) == [*before, token]


def test_the_next_line_continues_after_the_end_of_the_sentence(predictor: Predictor) -> None:
    autocompletion = Autocompletion(predictor, 4)
    for end in range(len("the cat s")):
        autocompletion.suggestions("the cat s"[:end])
    autocompletion.end_line("the cat saw")
    assert_shown(autocompletion.suggestions(""), suggested(predictor, "the cat saw\n"))
    autocompletion.end_line("")
    assert_shown(autocompletion.suggestions("a d"), suggested(predictor, "the cat saw\n\na", "d"))


def test_the_unknown_token_is_suggested_only_if_allowed(words: Predictor) -> None:
    for allowed in (True, False):
        entries = Autocompletion(words, len(WORDS), allow_unknown=allowed).suggestions("the ")
        assert ("<unk>" in [entry.shown for entry in entries]) == allowed


def test_after_a_whole_word_its_continuations_are_among_longer_words(words: Predictor) -> None:
    suggestions = Autocompletion(words, 20).suggestions("the Don")
    after = suggested(words, "the don", count=20)
    whole, longer = (dict(suggested(words, "the", "don", 20))[word] for word in ("don", "don't"))
    shares = {("Don't", -3): longer}
    for token, share in after:
        touches = token in (".", ")")
        shares[token if touches else f" {token}", 0] = whole * share
    assert [(entry.text, entry.start) for entry in suggestions] == sorted(shares, key=lambda key: -shares[key])
    assert [entry.probability for entry in suggestions] == pytest.approx(sorted(shares.values())[::-1], rel=1e-4)
    assert [entry.text for entry in Autocompletion(words, 3).suggestions("the Don")] == [
        entry.text for entry in suggestions[:3]
    ]


def test_a_word_that_never_appears_is_not_suggested(words: Predictor) -> None:
    for line in ("", "the ", "f", "don", "foo."):
        shown = {entry.shown for entry in Autocompletion(words, 20, never=["FOO", "Don't", "zebra"]).suggestions(line)}
        assert shown
        assert not shown & {"foo", "don't"}


def test_an_invalid_count_is_refused_at_once(predictor: Predictor) -> None:
    with pytest.raises(OptionError, match="the number of suggestions is 0, expected 1 or more"):
        Autocompletion(predictor, 0)


def test_a_keystroke_runs_only_a_finished_word(own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = count_tokens(own_predictor, monkeypatch)
    autocompletion = Autocompletion(own_predictor, 4)
    line = "the old market saw"
    for end in range(len(line) + 1):
        autocompletion.suggestions(line[:end])
    assert ran == [1, 1, 1, 1, 1]  # the beginning, and each word when it is whole
    for end in range(len(line), -1, -1):
        autocompletion.suggestions(line[:end])
    autocompletion.suggestions("the  old ma")
    assert len(ran) == 5
    autocompletion.suggestions("the old trader ")
    assert ran[5:] == [1]
    autocompletion.end_line("the old trader sold")
    autocompletion.suggestions("")
    assert ran[6:] == [2]


def test_a_character_runs_once(characters: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = count_tokens(characters, monkeypatch)
    autocompletion = Autocompletion(characters, 4)
    for line in ("a", "ab", "ab ", "ab", "a", "ab", "aba"):
        autocompletion.suggestions(line)
    assert ran == [1] * 5


def test_streams_of_a_long_line_are_dropped_and_rebuilt(
    own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "the old market saw " * 30
    lines = [line[: index + 1] for index, letter in enumerate(line) if letter == " "]
    autocompletion = Autocompletion(own_predictor, 4)
    for typed in lines:
        autocompletion.suggestions(typed)
    expected = [suggested(own_predictor, typed) for typed in (lines[80], lines[10])]
    ran = count_tokens(own_predictor, monkeypatch)
    assert_shown(autocompletion.suggestions(lines[80]), expected[0])
    assert ran == []
    assert_shown(autocompletion.suggestions(lines[10]), expected[1])
    assert ran == [11]

# ruff: noqa: RUF001 - the characters are meant
import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmtool.runtime import TokenError, Tokenization, Vocabulary, VocabularyError
from support.prose import PROSE, SAME

WORDS = Tokenization.of_rule("words")
WORDS_2 = Tokenization.of_rule("words-2")
WHITESPACE = Tokenization.of_rule("whitespace")
CHARACTERS = Tokenization.of_rule("characters")
ALL = pytest.mark.parametrize(
    "tokenization", [WORDS, WORDS_2, WHITESPACE, CHARACTERS], ids=lambda tokenization: tokenization.rule
)


TRICKY = st.text(
    st.sampled_from(
        "aΣ\u03c3İ9_'.-\u2019\u0301<unk>eos漢😀 \t\r\n\x0b\x1c\x85\xa0\u200b\u2028\u3000\ufeff"
        '"()@:/$=\u201c\u2018\u02bc\u00ad\u200d\u0307\u0344\u0338हि🏽🇩，'
    ),
    max_size=40,
)


def test_a_newline_ends_the_sentence() -> None:
    assert WHITESPACE.split(" the cat \n a dog\n") == ["the", "cat", "<eos>", "a", "dog", "<eos>"]
    assert WORDS.split("The cat.\nA dog") == ["the", "cat", ".", "<eos>", "a", "dog"]
    assert CHARACTERS.split("ab\n") == ["a", "b", "\n"]


def test_words_keeps_names_and_splits_punctuation_off() -> None:
    text = "Don't call os.path.join(a, b-c), <unk>!"
    assert WORDS.split(text) == ["don't", "call", "os.path.join", "(", "a", ",", "b-c", ")", ",", "<unk>", "!"]
    assert WORDS.join(WORDS.split(text)) == "don't call os.path.join (a, b-c), <unk>!"


@ALL
@given(text=st.text(max_size=60) | TRICKY)
def test_joined_tokens_split_into_the_same_tokens(tokenization: Tokenization, text: str) -> None:
    tokens = tokenization.split(text)
    assert tokenization.split(tokenization.join(tokens)) == tokens


@ALL
@given(chunks=st.lists(TRICKY | st.text(max_size=9), max_size=8))
def test_a_text_in_chunks_has_the_tokens_of_the_whole(tokenization: Tokenization, chunks: list[str]) -> None:
    tokens = list(itertools.chain.from_iterable(tokenization.split_chunks(chunks)))
    assert tokens == tokenization.split("".join(chunks))


@pytest.mark.parametrize(
    ("tokenization", "text", "expected"),
    [
        (WHITESPACE, "", ([], "")),
        (WHITESPACE, "the ", (["the"], "")),
        (WHITESPACE, "a\nthe (Fo", (["a", "<eos>", "the"], "(Fo")),
        (WORDS, "The (Fo", (["the", "("], "Fo")),
        (WORDS, "foo(", (["foo", "("], "")),
        (WORDS, "os.pa", ([], "os.pa")),
        (WORDS, "I don'", (["i"], "don'")),
        (WORDS, "cat .", (["cat", "."], "")),
        (WORDS, "so...", (["so", ".", ".", "."], "")),
        (WORDS, "<unk>a", (["<unk>"], "a")),
        (WORDS, "\u0130s", (["i", "\u0307"], "s")),
        (WORDS_2, "say (Fo", (["say", "("], "Fo")),
        (WORDS_2, "I don\u2019", (["i"], "don\u2019")),
        (WORDS_2, "see https://a.", (["see"], "https://a.")),
        (WORDS_2, "a --Fl", (["a"], "--Fl")),
        (WORDS_2, "10:", (["10", ":"], "")),
        (WORDS_2, "\u0130s", ([], "\u0130s")),
        (WORDS_2, "a e\u0301t", (["a"], "e\u0301t")),
        (WORDS_2, "an exam\u00adp", (["an"], "exam\u00adp")),
        (WORDS_2, "हिन्", ([], "हिन्")),
        (CHARACTERS, "the c", (list("the c"), "")),
    ],
)
def test_the_word_being_typed_is_split_off(
    tokenization: Tokenization, text: str, expected: tuple[list[str], str]
) -> None:
    assert tokenization.split_unfinished(text) == expected


@ALL
@given(text=TRICKY.map(lambda text: text.replace("\u03a3", "")))  # its lower case depends on what follows
def test_the_next_letter_extends_the_word_being_typed(tokenization: Tokenization, text: str) -> None:
    tokens, letters = tokenization.split_unfinished(text)
    assert text.endswith(letters)
    assert tokenization.split(f"{text}x") == [*tokens, tokenization.folded(f"{letters}x")]


@given(text=TRICKY.map(lambda text: text.replace("\r\n", "\n")))  # one newline, which the split below would halve
def test_words_do_not_depend_on_other_lines(text: str) -> None:
    for tokenization in (WORDS, WORDS_2):
        first, *others = (tokenization.split(line) for line in text.split("\n"))
        assert tokenization.split(text) == sum((["<eos>", *line] for line in others), first)


@pytest.mark.parametrize("name", PROSE)
def test_prose_is_split_into_words_and_written_as_it_was(name: str) -> None:
    text, tokens = PROSE[name]
    assert WORDS_2.split(text) == tokens
    assert WORDS_2.join(tokens) == text
    assert WORDS_2.split(text.upper()) == WORDS_2.split(text.upper().lower())
    assert WORDS_2.split(unicodedata.normalize("NFD", text)) == tokens


@pytest.mark.parametrize("name", SAME)
def test_forms_of_the_same_text_have_the_same_tokens(name: str) -> None:
    text, other = SAME[name]
    assert WORDS_2.split(text) == WORDS_2.split(other)
    assert WORDS_2.join(WORDS_2.split(text)) == other


@given(text=TRICKY.map(lambda text: text.replace("\u0307", "")))  # a dot on an i with another mark stays
def test_canonical_forms_have_the_same_tokens(text: str) -> None:
    for form in ("NFC", "NFD"):
        assert WORDS_2.split(unicodedata.normalize(form, text)) == WORDS_2.split(text)


@pytest.mark.parametrize("tokenization", [WORDS_2, WHITESPACE, CHARACTERS], ids=lambda tokenization: tokenization.rule)
@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_every_line_end_is_a_newline(tokenization: Tokenization, end: str) -> None:
    text = "the cat\n\na dog\n"
    other = text.replace("\n", end)
    assert tokenization.split(other) == tokenization.split(text)
    assert list(itertools.chain(*tokenization.split_chunks(other))) == tokenization.split(text)


def test_words_of_older_artifacts_are_as_they_were() -> None:
    text = "\u0130s हि don\u2019t 10:30 --x a\rb\r\n\u00ad"
    expected = ["i", "\u0307", "s", "ह", "\u093f", "don\u2019t", "10", ":", "30", "-", "-", "x", "a", "b", "<eos>"]
    assert WORDS.split(text) == [*expected, "\u00ad"]


@given(text=st.text(max_size=60))
def test_characters_are_reversible(text: str) -> None:
    text = text.replace("\r", "\n")
    assert CHARACTERS.join(CHARACTERS.split(text)) == text


def test_json_round_trip_and_refusals() -> None:
    assert Tokenization.from_json(WORDS.to_json()) == WORDS
    with pytest.raises(VocabularyError, match="'syllables' is not known, expected one of whitespace"):
        Tokenization("syllables")
    with pytest.raises(VocabularyError, match="without white space"):
        Tokenization("whitespace", unknown="un known")
    with pytest.raises(VocabularyError, match="must be an object"):
        Tokenization.from_json(["whitespace"])


def vocabulary() -> Vocabulary:
    return Vocabulary(["the", "<eos>", "<unk>", "cat"], WHITESPACE)


def test_unknown_words_and_newlines_have_separate_ids() -> None:
    assert vocabulary().encode("the dog\ncat") == [0, 2, 1, 3]
    assert vocabulary().decode([0, 2, 1, 3]) == "the <unk>\ncat"
    assert vocabulary().encode("") == []


def test_completions_are_the_tokens_with_the_prefix() -> None:
    tokens = ["stock", "<eos>", "<unk>", "st", "sto", "stuff", "s", "t", "stocks", "st\u00f6ck", "<b>"]
    for tokenization in (WHITESPACE, WORDS):
        vocabulary = Vocabulary(tokens, tokenization)
        for prefix in ("st", "sto", "stocks", "stocksy", "s", "z", "<", "st\u00f6", ""):
            expected = [index for index, token in enumerate(tokens) if token.startswith(prefix) and index not in (1, 2)]
            assert vocabulary.completions(prefix) == expected
    assert Vocabulary(tokens, WORDS).completions("STO") == [0, 4, 8]
    assert Vocabulary(tokens, WHITESPACE).completions("STO") == []


def test_ids_outside_the_vocabulary_are_refused() -> None:
    for token_id in (-1, 4):
        with pytest.raises(TokenError, match=f"token id {token_id} is outside the vocabulary, expected 0 to 3"):
            vocabulary().decode([0, token_id])


def test_an_inconsistent_vocabulary_is_refused() -> None:
    with pytest.raises(VocabularyError, match="holds 'the' twice"):
        Vocabulary(["the", "<eos>", "<unk>", "the"], WHITESPACE)
    with pytest.raises(VocabularyError, match="lacks its special token '<unk>'"):
        Vocabulary(["the", "<eos>"], WHITESPACE)
    with pytest.raises(VocabularyError, match="must be a list of strings"):
        Vocabulary.from_json(["the", 3], WHITESPACE.to_json())


def test_the_hash_depends_on_tokens_and_order() -> None:
    assert vocabulary().sha256 == vocabulary().sha256
    assert vocabulary().sha256 != Vocabulary(["cat", "<eos>", "<unk>", "the"], WHITESPACE).sha256

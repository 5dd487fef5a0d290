"""The rule bpe: any text there and back, merges by rank, chunks, and merges that do not fit."""

import itertools
import random
import time
from collections.abc import Iterator

import pytest
from lmtool.runtime import TextDecoder, Tokenization, Vocabulary, VocabularyError
from lmtool.runtime.text.byte_alphabet import BYTE_TOKENS, bytes_of, token_of
from lmtool.runtime.text.byte_pairs import pieces

MERGES = ("t h", "th e", "Ġ the", "Ġ c", "a t", "Ġc at", "' t", "Ã ©", "Ġ Ġ")
ODD_TEXTS = (
    "",
    "the cat, the CAT; don't",
    "\r\n\r \n\n\t x\x00\x7f",
    "naïve cafés, cafe\u0301, ﬁ, \u00ad\ufeff\u200b",
    "السلام عليكم שלום \u202emixed",
    "日本語 ภาษาไทย हिन्दी မြန်မာ",
    "👩‍👩‍👧‍👦 🇩🇪 \U0010ffff \ud7ff\ue000",
    "<unk> <eos> Ġ Ċ Ã",
    "   three  two one \n   ",
    "12345678901234567890123456789012345 ---- 'tis dogs' rock'n'roll",
)


@pytest.fixture(scope="module")
def tokenization() -> Tokenization:
    return Tokenization.of_rule("bpe", MERGES)


@pytest.fixture(scope="module")
def vocabulary(tokenization: Tokenization) -> Vocabulary:
    return Vocabulary(tokenization.required, tokenization)


def odd_texts(count: int) -> Iterator[str]:
    draw = random.Random(1)
    alphabet = [*"the cat' \n\r\t.1é中😀\u0301\x00", *map(chr, range(0x20, 0x500, 7))]
    for _ in range(count):
        yield "".join(draw.choices(alphabet, k=draw.randrange(40)))


def test_any_text_there_and_back(vocabulary: Vocabulary) -> None:
    for text in (*ODD_TEXTS, *odd_texts(2000)):
        ids = vocabulary.encode(text)
        assert vocabulary.decode(ids) == text == vocabulary.tokenization.join(vocabulary.tokenization.split(text))
        assert vocabulary.unknown_id not in ids
        assert ids.count(vocabulary.end_of_sentence_id) == text.count("\n")


def test_half_of_a_surrogate_pair_becomes_the_replacement_character(vocabulary: Vocabulary) -> None:
    assert vocabulary.decode(vocabulary.encode("a\ud800b\udfff")) == "a\ufffdb\ufffd"


def test_merges_apply_by_rank_and_leftmost_first(tokenization: Tokenization) -> None:
    assert tokenization.split("the the\n") == ["the", "Ġthe", "Ċ"]
    assert tokenization.split("that cat") == ["th", "at", "Ġcat"]
    assert tokenization.split("don't é   x") == ["d", "o", "n", "'t", "Ġ", "Ã©", "ĠĠ", "Ġ", "x"]
    assert Tokenization.of_rule("bpe", ["a a"]).split("aaa aa") == ["aa", "a", "Ġ", "aa"]
    assert Tokenization.of_rule("bpe").split("é\n") == ["Ã", "©", "Ċ"]


def test_pieces_are_short_and_begin_at_spaces() -> None:
    text = "don't  'stop'" + "x" * 70 + " 12\r\n\t" + " " * 70 + "a"
    found = pieces(text)
    assert found[:4] == ["don't", " ", " '", "stop'xxx" + "x" * 29]
    assert found[4:7] == ["x" * 32, "x" * 6, " 12"]
    assert found[7:] == ["\r", "\n", "\t", " " * 32, " " * 32, " " * 5, " a"]
    assert "".join(found) == text
    assert all(len(piece) <= 66 and ("\n" not in piece or piece == "\n") for piece in found)


def test_chunks_give_the_tokens_of_the_whole_text(tokenization: Tokenization) -> None:
    draw = random.Random(2)
    for text in (*ODD_TEXTS, *odd_texts(300), "don't " * 20 + " " * 80 + "x" * 80):
        cuts = sorted(draw.choices(range(len(text) + 1), k=draw.randrange(12)))
        chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert [*itertools.chain(*tokenization.split_chunks(chunks))] == tokenization.split(text)


def test_a_megabyte_without_a_space_takes_linear_time(tokenization: Tokenization) -> None:
    seconds = []
    for size in (50_000, 200_000):
        text = "".join(random.Random(3).choices("abcdefgh", k=size))
        fresh = Tokenization.of_rule("bpe", tokenization.merges)
        begun = time.perf_counter()
        assert len(fresh.split(text)) > size / 2
        seconds.append(time.perf_counter() - begun)
    assert seconds[1] < 20 * seconds[0]


def test_a_decoder_never_splits_a_character(vocabulary: Vocabulary) -> None:
    text = "é 日本 😀the"
    decoder = TextDecoder(vocabulary)
    found = [decoder.add(token_id) for token_id in vocabulary.encode(text)]
    assert "".join(found) == text
    assert "" in found
    assert not any("\ufffd" in piece for piece in found)


def test_a_decoder_forks_within_a_character_and_skips(vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode("x😀y")
    decoder = TextDecoder(vocabulary)
    assert [decoder.add(token_id) for token_id in ids[:3]] == ["x", "", ""]
    fork, skipped = decoder.copy(), TextDecoder(vocabulary)
    skipped.skip(ids[:3])
    resumed = TextDecoder(vocabulary, ids[2], decoder.partial)
    assert decoder.finish() == "\ufffd"
    for other in (fork, skipped, resumed):
        assert other.partial == b"\xf0\x9f"
        assert "".join(map(other.add, ids[3:])) == "😀y"


def test_bytes_that_are_no_text_become_the_replacement_character(vocabulary: Vocabulary) -> None:
    ids = [vocabulary.id(token_of(bytes([byte]))) for byte in b"\x80a\xe2\x82 \xf0"]
    assert vocabulary.decode(ids) == "\ufffda\ufffd \ufffd"
    assert vocabulary.text(ids[0]) == "bytes:\\x80"
    assert vocabulary.text(vocabulary.id("Ġthe")) == " the"


def test_the_byte_alphabet_has_a_printable_character_for_each_byte() -> None:
    assert len(set(BYTE_TOKENS)) == 256
    assert BYTE_TOKENS.isprintable()
    assert " " not in BYTE_TOKENS
    assert bytes_of(BYTE_TOKENS) == bytes(range(256))
    assert token_of(b"a b\n") == "aĠbĊ"


def test_a_tokenization_is_read_again(tokenization: Tokenization, vocabulary: Vocabulary) -> None:
    again = Vocabulary.from_json(list(vocabulary.tokens), tokenization.to_json())
    assert again.tokenization == tokenization
    assert again.encode("the cat") == vocabulary.encode("the cat")
    assert "merges" not in Tokenization("words").to_json()


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        (["th e"], "merge 1 is 'th e', expected two tokens"),
        (["t h", "t h"], "merge 2 is 't h'"),
        (["t h", "the"], "merge 2 is 'the'"),
        (["t  h"], "merge 1"),
        (["a b c"], "merge 1"),
        (["a Ċ"], "merge 1"),
        (["€ a"], "merge 1"),
        (["u n", "un k", "< unk", "<unk >"], "merge 4"),
        ([""], "merge 1"),
        ([" "], "merge 1"),
    ],
)
def test_merges_that_do_not_fit_are_refused(merges: list[str], message: str) -> None:
    with pytest.raises(VocabularyError, match=message):
        Tokenization.of_rule("bpe", merges)


@pytest.mark.parametrize("merges", [None, "a b", {"a": "b"}, [1], [["a", "b"]]])
def test_merges_of_another_type_are_refused(merges: object) -> None:
    with pytest.raises(VocabularyError, match="merges must be a list of strings"):
        Tokenization.from_json({**Tokenization.of_rule("bpe").to_json(), "merges": merges})


def test_other_rules_have_no_merges() -> None:
    with pytest.raises(VocabularyError, match="only bpe has any"):
        Tokenization("words", merges=("a b",))


def test_a_vocabulary_holds_bytes_and_merges_and_nothing_else(tokenization: Tokenization) -> None:
    with pytest.raises(VocabularyError, match="lacks its token 'Ġ'"):
        Vocabulary([token for token in tokenization.required if token != "Ġ"], tokenization)
    with pytest.raises(VocabularyError, match="holds 'zz', which is no byte"):
        Vocabulary([*tokenization.required, "zz"], tokenization)
    with pytest.raises(VocabularyError, match="special tokens are"):
        Tokenization("bpe")

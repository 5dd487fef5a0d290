"""Tokenization: text to tokens and back by a few named rules, simple enough to implement in any language.

Rules are names and not patterns, so that an untrusted file cannot contain a regular expression that never ends.
"""

import io
import itertools
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, final

from .arguments import checked_text, checked_texts, wrong_type
from .errors import VocabularyError
from .text.byte_alphabet import BYTE_TOKENS, bytes_of, token_of
from .text.byte_pairs import BytePairs, unicode_text
from .words import WORD_RULES, finder, with_newlines

RULES = {
    "whitespace": "word",
    **dict.fromkeys(WORD_RULES, "word"),
    "characters": "char",
    "bpe": "subword",
}
"""Rule -> unit. `whitespace` splits at white space (the Penn Treebank reader); `words-2` takes prose: words in lower
case, with `don't`, `os.path`, `10:30` and `--flag` whole, every other mark alone; `words` is an older form of it, which
artifacts may have; `characters` takes each code point; `bpe` cuts any text into parts of words, and loses nothing of
it: tokens are written in the byte alphabet (see `text.byte_alphabet`)."""

NEWLINE_TOKEN = token_of(b"\n")
SPACE_TOKEN = token_of(b" ")
_UNKNOWN = "<unk>"
_FIELDS = ("rule", "unknown", "end_of_sentence")


@final
@dataclass(frozen=True)
class Tokenization:
    """A rule and its special tokens.

    Attributes:
        rule: One of `RULES`.
        unknown: Replaces every token outside the vocabulary.
        end_of_sentence: Replaces a newline; for `characters` and `bpe` the newline itself.
        merges: For `bpe`: `left right`, two tokens that become one; those to merge first come first.
    """

    rule: str = "whitespace"
    unknown: str = _UNKNOWN
    end_of_sentence: str = "<eos>"
    merges: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise VocabularyError for an unknown rule, special tokens that do not fit it, or merges that do not fit."""
        for name in _FIELDS:
            checked_text(name, getattr(self, name))
        if self.rule not in RULES:
            raise VocabularyError(
                f"tokenization rule {reprlib.repr(self.rule)} is not known, expected one of {', '.join(RULES)}"
            )
        if self.unit == "word" and not all(token.split() == [token] for token in self.specials):
            raise VocabularyError(
                f"special tokens {reprlib.repr(self.specials)} must be non-empty and without white space"
            )
        if self.unit == "subword" and self.specials != (NEWLINE_TOKEN, _UNKNOWN):
            raise VocabularyError(
                f"special tokens are {reprlib.repr(self.specials)}, the rule {self.rule} has {NEWLINE_TOKEN!r} for the "
                f"newline and {_UNKNOWN!r}; make it with Tokenization.of_rule({self.rule!r}, merges)"
            )
        object.__setattr__(self, "merges", tuple(checked_texts("merges", self.merges)))
        _check_merges(self)

    @classmethod
    def of_rule(cls, rule: str, merges: Sequence[str] = ()) -> "Tokenization":
        """The tokenization with the usual special tokens of `rule`.

        They are `<unk>` and `<eos>`; for `characters` U+FFFD and the newline; for `bpe` `<unk>`, which no text becomes,
        and the newline.
        """
        unit = RULES.get(checked_text("rule", rule))
        if unit == "char":
            return cls(rule, unknown="\ufffd", end_of_sentence="\n", merges=tuple(merges))
        return cls(rule, end_of_sentence=NEWLINE_TOKEN if unit == "subword" else "<eos>", merges=tuple(merges))

    @classmethod
    def from_json(cls, value: Any) -> "Tokenization":
        """Read the result of `to_json`.

        Raises:
            VocabularyError: A field is missing or has another type; as for `Tokenization`.
        """
        if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in _FIELDS):
            raise VocabularyError(
                f"tokenization must be an object with the strings {', '.join(_FIELDS)}; found {reprlib.repr(value)}"
            )
        merges = value.get("merges", [])
        if not isinstance(merges, list) or not all(isinstance(merge, str) for merge in merges):
            raise VocabularyError(f"the tokenization's merges must be a list of strings; found {reprlib.repr(merges)}")
        rule, unknown, end_of_sentence = (value[name] for name in _FIELDS)
        return cls(rule, unknown, end_of_sentence, tuple(merges))

    def to_json(self) -> dict[str, Any]:
        """The fields and the unit as JSON values; merges for `bpe` only."""
        fields = {**asdict(self), "merges": list(self.merges)}
        if self.unit != "subword":
            del fields["merges"]
        return {"unit": self.unit, **fields}

    @property
    def unit(self) -> str:
        """`word`, `char` or `subword`."""
        return RULES[self.rule]

    @property
    def reads(self) -> str:
        """What the tokens are, for messages: `words`, `characters` or `parts of words`."""
        return {"word": "words", "char": "characters", "subword": "parts of words"}[self.unit]

    @property
    def specials(self) -> tuple[str, str]:
        """End of sentence, unknown."""
        return (self.end_of_sentence, self.unknown)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The tokens that a vocabulary of this tokenization must hold; for `bpe` it holds no others."""
        if self.unit != "subword":
            return self.specials
        return tuple(dict.fromkeys([*self.specials, *BYTE_TOKENS, *(merge.replace(" ", "") for merge in self.merges)]))

    @cached_property
    def _pairs(self) -> BytePairs:
        return BytePairs(self.merges)

    @property
    def takes_returns(self) -> bool:
        """Whether CR and CRLF are newlines as LF is; for `words` CR is a space, for `bpe` a character."""
        return self.rule not in ("words", "bpe")

    def folded(self, text: str) -> str:
        """`text` in the form of the rule's tokens.

        For words as in `WordRule`; for `whitespace` and `characters` with every line end as a newline; for `bpe` as it
        is, with U+FFFD for halves of surrogate pairs.
        """
        checked_text("text", text)
        if self.unit == "subword":
            return unicode_text(text)
        if self.rule in WORD_RULES:
            return WORD_RULES[self.rule].folded(text, self.end_of_sentence)
        return with_newlines(text, same_length=self.unit == "word")

    def split(self, text: str) -> list[str]:
        """The tokens of `text`; a newline becomes the end-of-sentence token."""
        if self.unit == "subword":
            return self._pairs.tokens(checked_text("text", text))
        text = self.folded(text)
        if self.rule == "characters":
            return list(text)
        if self.rule == "whitespace":
            return text.replace("\n", f" {self.end_of_sentence} ").split()
        return self._split_words(text)

    def _split_words(self, text: str) -> list[str]:
        find = finder(self.rule, (self.unknown, self.end_of_sentence), text.isascii())
        plain = not any(map(str.isalnum, self.specials))  # else a word may begin with a special token
        tokens: list[str] = []
        for line in text.split("\n"):
            for word in line.split():
                if plain and word.isalnum():
                    tokens.append(word)
                else:
                    tokens += find(word)
            tokens.append(self.end_of_sentence)
        return tokens[:-1]

    def split_unfinished(self, text: str) -> tuple[list[str], str]:
        """The tokens of a text that is being typed, without its last word, and the letters of that word as typed.

        The letters are what a letter at the end of `text` would make longer, the prefix for `Vocabulary.completions`.
        There are none after white space or a punctuation mark, in an empty text, and where tokens are not words. A mark
        that may continue a word is one of them: `don'` may become `don't`.
        """
        if self.unit != "word":
            return self.split(text), ""
        start = _start_of_last_word(checked_text("text", text))
        last = text[start:]
        *before, longer = self.split(f"{last}x")
        return [*self.split(text[:start]), *self.split(last)[: len(before)]], self._letters_of(last, longer)

    def _letters_of(self, text: str, longer: str) -> str:
        """The end of `text` that becomes the token `longer` with another x."""
        size = len(longer) - 1
        if not size:
            return ""
        counts = itertools.chain([size], range(size // 3 + 1, len(text) + 1))
        return next((text[-count:] for count in counts if self.folded(f"{text[-count:]}x") == longer), text[-size:])

    def split_last_piece(self, text: str) -> tuple[list[str], str]:
        """For `bpe`: the tokens of a text without its last piece, which may be unfinished, and that piece as text.

        It includes the space before it, and is empty after a newline or other controls.
        """
        return self._pairs.tokens_unfinished(checked_text("text", text))

    def is_subword(self, *tokens: str) -> bool:
        """For `bpe`: whether a piece of these tokens' bytes is split into these tokens."""
        return self._pairs.is_subword(tokens)

    def split_chunks(self, chunks: Iterable[str]) -> Iterator[list[str]]:
        """The tokens of a text that arrives in chunks, cut anywhere: the same as `split` of the whole text.

        Memory is bounded; for words, if white space occurs now and then.
        """
        if not isinstance(chunks, Iterable):
            raise wrong_type("chunks", chunks, "the pieces of a text", "of one text: split(text)")
        if self.unit == "subword":
            return self._pairs.tokens_of_chunks(chunks)
        if self.takes_returns:
            chunks = _with_newlines(chunks)
        return map(self.split, chunks if self.unit == "char" else _cut_at_white_space(chunks))

    def join(self, tokens: Iterable[str]) -> str:
        """Text that `split` splits into `tokens` again."""
        tokens = checked_texts("tokens", tokens)
        if self.unit == "subword":
            return b"".join(map(bytes_of, tokens)).decode(errors="replace")
        return "".join(map(self.piece, tokens, [None, *tokens]))

    def text(self, token: str) -> str:
        """A token for display: its text without space before it; bytes that are no text as `bytes:\\xf0\\x9f`."""
        checked_text("token", token)
        if self.unit != "subword":
            return token
        data = bytes_of(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return f"bytes:{repr(data)[2:-1]}"

    def piece(self, token: str, previous: str | None) -> str:
        """The text that `token` adds after the token `previous`, None at the start of the text; not for `bpe`.

        `TextDecoder` does so for all rules.
        """
        checked_text("token", token)
        if self.unit == "char":
            return token
        if token == self.end_of_sentence:
            return "\n"
        text = WORD_RULES[self.rule].written.get(token, token) if self.rule in WORD_RULES else token
        return text if self._touches(token, previous) else f" {text}"

    def _touches(self, token: str, previous: str | None) -> bool:
        if previous is None or previous == self.end_of_sentence:
            return True
        return self.rule in WORD_RULES and WORD_RULES[self.rule].touches(token, previous)


def _check_merges(tokenization: Tokenization) -> None:
    """Raise VocabularyError unless each merge joins two tokens that are there before it, and makes no special one."""
    if tokenization.merges and tokenization.unit != "subword":
        raise VocabularyError(f"the rule {tokenization.rule} has {len(tokenization.merges):,} merges; only bpe has any")
    known = set(BYTE_TOKENS) - {NEWLINE_TOKEN}
    seen = set()
    for number, merge in enumerate(tokenization.merges, start=1):
        left, _, right = merge.partition(" ")
        if left not in known or right not in known or merge in seen or left + right == _UNKNOWN:
            raise VocabularyError(
                f"merge {number:,} is {reprlib.repr(merge)}, expected two tokens with a space between them, each a "
                "byte or the result of a merge before it, no newline, no pair twice"
            )
        seen.add(merge)
        known.add(left + right)


def _with_newlines(chunks: Iterable[str]) -> Iterator[str]:
    """The same text with every line end, also one that is cut, as a newline."""
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    for chunk in chunks:
        yield decoder.decode(chunk)
    yield decoder.decode("", final=True)


def _cut_at_white_space(chunks: Iterable[str]) -> Iterator[str]:
    """The same text, cut only after white space, where no token of a word rule and no case folding continues."""
    word: list[str] = []
    for chunk in chunks:
        end = _start_of_last_word(chunk)
        if end:
            yield "".join([*word, chunk[:end]])
            word = []
        word.append(chunk[end:])
    yield "".join(word)


def _start_of_last_word(text: str) -> int:
    if not text or text[-1].isspace():
        return len(text)
    return len(text) - len(text.rsplit(maxsplit=1)[-1])

"""Tokenization: text to tokens and back by a few named rules, simple enough to implement in any language.

Rules are names and not patterns, so that an untrusted file cannot contain a regular expression that never ends.
"""

import re
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, final

from .errors import VocabularyError

RULES = {
    "whitespace": "word",
    "words": "word",
    "characters": "char",
}
"""Rule -> unit. `whitespace` splits at white space (the Penn Treebank reader); `words` lower-cases, keeps `os.path` and
`don't` whole and splits every other punctuation mark off; `characters` takes each code point."""

_WITHIN_WORD = "'\u2019.-"
_WORD = rf"\w+(?:[{re.escape(_WITHIN_WORD)}]\w+)*|[^\w\s]"
_NO_SPACE_BEFORE = frozenset(".,;:!?)]}%…")
_NO_SPACE_AFTER = frozenset("([{")


@final
@dataclass(frozen=True)
class Tokenization:
    """A rule and its special tokens.

    Attributes:
        rule: One of `RULES`.
        unknown: Replaces every token outside the vocabulary.
        end_of_sentence: Replaces a newline; for `characters` the newline itself.
    """

    rule: str = "whitespace"
    unknown: str = "<unk>"
    end_of_sentence: str = "<eos>"

    def __post_init__(self) -> None:
        """Raise VocabularyError for an unknown rule, or a special token that is empty or holds white space."""
        if self.rule not in RULES:
            raise VocabularyError(
                f"tokenization rule {reprlib.repr(self.rule)} is not known, expected one of {', '.join(RULES)}"
            )
        if self.unit == "word" and not all(token.split() == [token] for token in self.specials):
            raise VocabularyError(
                f"special tokens {reprlib.repr(self.specials)} must be non-empty and without white space"
            )

    @classmethod
    def of_rule(cls, rule: str) -> "Tokenization":
        """The tokenization with the usual special tokens of `rule`: `<unk>` and `<eos>`, or U+FFFD and newline."""
        if RULES.get(rule) == "char":
            return cls(rule, unknown="\ufffd", end_of_sentence="\n")
        return cls(rule)

    @classmethod
    def from_json(cls, value: Any) -> "Tokenization":
        """Read the result of `to_json`.

        Raises:
            VocabularyError: A field is missing or is not a string.
        """
        names = ("rule", "unknown", "end_of_sentence")
        if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in names):
            raise VocabularyError(
                f"tokenization must be an object with the strings {', '.join(names)}; found {reprlib.repr(value)}"
            )
        return cls(*(value[name] for name in names))

    def to_json(self) -> dict[str, str]:
        """The fields and the unit as JSON values."""
        return {"unit": self.unit, **asdict(self)}

    @property
    def unit(self) -> str:
        """`word` or `char`."""
        return RULES[self.rule]

    @property
    def specials(self) -> tuple[str, str]:
        """The tokens that a vocabulary of this tokenization must hold: end of sentence, unknown."""
        return (self.end_of_sentence, self.unknown)

    def folded(self, text: str) -> str:
        """`text` in the letter case of the rule's tokens: lower case for `words`, unchanged for the others."""
        return text.lower() if self.rule == "words" else text

    def split(self, text: str) -> list[str]:
        """The tokens of `text`; a newline becomes the end-of-sentence token."""
        if self.rule == "characters":
            return list(text)
        if self.rule == "whitespace":
            return text.replace("\n", f" {self.end_of_sentence} ").split()
        find = self._word_pattern.findall
        first, *others = self.folded(text).split("\n")
        tokens: list[str] = find(first)
        for line in others:
            tokens.append(self.end_of_sentence)
            tokens += find(line)
        return tokens

    def split_unfinished(self, text: str) -> tuple[list[str], str]:
        """The tokens of a text that is being typed, without its last word, and the letters of that word as typed.

        The letters are the prefix for `Vocabulary.completions`: they reach to the end of `text`. There are none after
        white space or a punctuation mark, in an empty text, and for `characters`. Under `words` they include a mark
        that may continue a word: `don'` may become `don't`.
        """
        tokens = self.split(text)
        if self.unit == "char" or not tokens or text[-1].isspace():
            return tokens, ""
        count = 1 if self.rule == "whitespace" else self._count_unfinished(tokens, self.folded(text))
        letters = sum(map(len, tokens[len(tokens) - count :]))
        return tokens[: len(tokens) - count], text[len(text) - letters :]

    def _count_unfinished(self, tokens: list[str], text: str) -> int:
        """The number of tokens at the end of the folded `text` that may be the start of one word."""
        *before, last = tokens
        if _is_word(last):
            return 1
        goes_on = before and last in _WITHIN_WORD and _is_word(before[-1]) and text.endswith(before[-1] + last)
        return 2 if goes_on else 0

    @cached_property
    def _word_pattern(self) -> re.Pattern[str]:
        return re.compile("|".join([re.escape(self.unknown), re.escape(self.end_of_sentence), _WORD]))

    def split_chunks(self, chunks: Iterable[str]) -> Iterator[list[str]]:
        """The tokens of a text that arrives in chunks, cut anywhere: the same as `split` of the whole text.

        Memory is bounded if white space occurs now and then (`characters` does not need it).
        """
        return map(self.split, chunks if self.unit == "char" else _cut_at_white_space(chunks))

    def join(self, tokens: Iterable[str]) -> str:
        """Text that `split` splits into `tokens` again."""
        tokens = list(tokens)
        return "".join(map(self.piece, tokens, [None, *tokens]))

    def piece(self, token: str, previous: str | None) -> str:
        """The text that `token` adds after the token `previous`; None at the start of the text."""
        if self.unit == "char":
            return token
        if token == self.end_of_sentence:
            return "\n"
        return token if self._touches(token, previous) else f" {token}"

    def _touches(self, token: str, previous: str | None) -> bool:
        if previous is None or previous == self.end_of_sentence:
            return True
        if self.rule == "whitespace":
            return False
        return token in _NO_SPACE_BEFORE or previous in _NO_SPACE_AFTER


def _is_word(token: str) -> bool:
    return re.match(r"\w", token) is not None


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

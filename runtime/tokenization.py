"""How text becomes tokens and tokens become text: a few named rules, simple enough to write again in any language.

Rules are names and not patterns, so that a file from elsewhere cannot bring a regular expression that never ends.
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
    """A rule and the tokens that stand for what it cannot see.

    Attributes:
        rule: One of `RULES`.
        unknown: The token that stands for every token outside the vocabulary.
        end_of_sentence: The token that a newline becomes; for `characters` the newline itself.
    """

    rule: str = "whitespace"
    unknown: str = "<unk>"
    end_of_sentence: str = "<eos>"

    def __post_init__(self) -> None:
        """Check the rule.

        Raises:
            VocabularyError: The rule is not known, or a special token is empty or holds white space.
        """
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
        """Read what `to_json` gave.

        Raises:
            VocabularyError: A field is missing or is no string.
        """
        names = ("rule", "unknown", "end_of_sentence")
        if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in names):
            raise VocabularyError(
                f"tokenization must be an object with the strings {', '.join(names)}; found {reprlib.repr(value)}"
            )
        return cls(*(value[name] for name in names))

    def to_json(self) -> dict[str, str]:
        """The fields and the unit, ready for JSON."""
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
        """`text` in the letter case of the rule's tokens: lower for `words`, as it is for the others."""
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
        """The tokens of a text that is still being typed, without its last word, and the letters of that word as typed.

        The letters are what `Vocabulary.completions` takes: they reach to the end of `text` and may go on. There are
        none where white space, a punctuation mark or nothing comes last, and never for `characters`. Under `words` a
        mark that may stand within a word is one of the letters: `don'` may become `don't`.
        """
        tokens = self.split(text)
        if self.unit == "char" or not tokens or text[-1].isspace():
            return tokens, ""
        count = 1 if self.rule == "whitespace" else self._count_unfinished(tokens, self.folded(text))
        letters = sum(map(len, tokens[len(tokens) - count :]))
        return tokens[: len(tokens) - count], text[len(text) - letters :]

    def _count_unfinished(self, tokens: list[str], text: str) -> int:
        """How many tokens at the end of the folded `text`, white space not being last, may be the start of one word."""
        *before, last = tokens
        if _is_word(last):
            return 1
        goes_on = before and last in _WITHIN_WORD and _is_word(before[-1]) and text.endswith(before[-1] + last)
        return 2 if goes_on else 0

    @cached_property
    def _word_pattern(self) -> re.Pattern[str]:
        return re.compile("|".join([re.escape(self.unknown), re.escape(self.end_of_sentence), _WORD]))

    def split_chunks(self, chunks: Iterable[str]) -> Iterator[list[str]]:
        """The tokens of a text that comes in chunks, cut anywhere: those that `split` finds in the whole.

        One list at a time is held, as long as white space comes up now and then (`characters` does not need it).
        """
        return map(self.split, chunks if self.unit == "char" else _cut_at_white_space(chunks))

    def join(self, tokens: Iterable[str]) -> str:
        """Text that `split` takes apart into `tokens` again."""
        pieces = []
        previous = None
        for token in tokens:
            pieces.append(self.piece(token, previous))
            previous = token
        return "".join(pieces)

    def piece(self, token: str, previous: str | None) -> str:
        """What `token` adds to a text whose last token is `previous`; None where the text begins."""
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
    """The same text, cut after white space only: no token of a word rule goes on there, nor what its lower case is."""
    held: list[str] = []
    for chunk in chunks:
        end = _after_last_white_space(chunk)
        if end:
            yield "".join([*held, chunk[:end]])
            held = []
        held.append(chunk[end:])
    yield "".join(held)


def _after_last_white_space(text: str) -> int:
    """Where the last word of `text` begins: 0 where nothing stands before it."""
    if not text or text[-1].isspace():
        return len(text)
    return len(text) - len(text.rsplit(maxsplit=1)[-1])

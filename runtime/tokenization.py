"""Tokenization: text to tokens and back by a few named rules, simple enough to implement in any language.

Rules are names and not patterns, so that an untrusted file cannot contain a regular expression that never ends.
"""

import io
import itertools
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, final

from .arguments import checked_text, checked_texts, wrong_type
from .errors import VocabularyError
from .words import WORD_RULES, finder, with_newlines

RULES = {
    "whitespace": "word",
    **dict.fromkeys(WORD_RULES, "word"),
    "characters": "char",
}
"""Rule -> unit. `whitespace` splits at white space (the Penn Treebank reader); `words-2` takes prose: words in lower
case, with `don't`, `os.path`, `10:30` and `--flag` whole, every other mark alone; `words` is an older form of it, which
artifacts may have; `characters` takes each code point."""


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
        for name in ("rule", "unknown", "end_of_sentence"):
            checked_text(name, getattr(self, name))
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
        if RULES.get(checked_text("rule", rule)) == "char":
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

    @property
    def takes_returns(self) -> bool:
        """Whether CR and CRLF are newlines as LF is; for `words` CR is a space."""
        return self.rule != "words"

    def folded(self, text: str) -> str:
        """`text` in the form of the rule's tokens: every line end is a newline, and for words as in `WordRule`."""
        checked_text("text", text)
        if self.rule in WORD_RULES:
            return WORD_RULES[self.rule].folded(text, self.end_of_sentence)
        return with_newlines(text, same_length=self.unit == "word")

    def split(self, text: str) -> list[str]:
        """The tokens of `text`; a newline becomes the end-of-sentence token."""
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
        There are none after white space or a punctuation mark, in an empty text, and for `characters`. A mark that may
        continue a word is one of them: `don'` may become `don't`.
        """
        tokens = self.split(text)
        if self.unit == "char" or not tokens:
            return tokens, ""
        *before, longer = self.split(f"{text}x")
        return tokens[: len(before)], self._letters_of(text, longer)

    def _letters_of(self, text: str, longer: str) -> str:
        """The end of `text` that becomes the token `longer` with another x."""
        size = len(longer) - 1
        if not size:
            return ""
        counts = itertools.chain([size], range(size // 3 + 1, len(text) + 1))
        return next((text[-count:] for count in counts if self.folded(f"{text[-count:]}x") == longer), text[-size:])

    def split_chunks(self, chunks: Iterable[str]) -> Iterator[list[str]]:
        """The tokens of a text that arrives in chunks, cut anywhere: the same as `split` of the whole text.

        Memory is bounded if white space occurs now and then (`characters` does not need it).
        """
        if not isinstance(chunks, Iterable):
            raise wrong_type("chunks", chunks, "the pieces of a text", "of one text: split(text)")
        if self.takes_returns:
            chunks = _with_newlines(chunks)
        return map(self.split, chunks if self.unit == "char" else _cut_at_white_space(chunks))

    def join(self, tokens: Iterable[str]) -> str:
        """Text that `split` splits into `tokens` again."""
        tokens = checked_texts("tokens", tokens)
        return "".join(map(self.piece, tokens, [None, *tokens]))

    def piece(self, token: str, previous: str | None) -> str:
        """The text that `token` adds after the token `previous`; None at the start of the text."""
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

"""The vocabulary: token <-> id, and text <-> ids by its tokenization."""

import hashlib
import json
import re
import reprlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .arguments import checked_instance, checked_text, checked_texts, wrong_type
from .draws.barred_words import BarredWords
from .errors import OptionError, TokenError, VocabularyError
from .text.byte_alphabet import BYTE_TOKENS
from .text.spaces import Spaces
from .text.text_decoder import TextDecoder
from .tokenization import Tokenization
from .words import MARKS_AROUND

_GOES_ON = re.compile(f"'?[0-9A-Za-z{re.escape(BYTE_TOKENS[0x80:])}]")
"""The begin of a token of `bpe` that goes on with a word; bytes from 0x80 on are parts of letters."""


@final
class Vocabulary:
    """An immutable list of distinct tokens; a token's index is its id.

    Example:
        >>> from lmtool.runtime import Tokenization, Vocabulary
        >>> vocabulary = Vocabulary(["<eos>", "<unk>", "the", "market"], Tokenization("whitespace"))
        >>> vocabulary.encode("the stock market")
        [2, 1, 3]
        >>> vocabulary.decode([2, 3])
        'the market'
    """

    def __init__(self, tokens: Sequence[str], tokenization: Tokenization) -> None:
        """Check the tokens and index them.

        Raises:
            VocabularyError: A token appears twice or is not Unicode text, or a special token is missing.
        """
        self.tokens = tuple(checked_texts("tokens", tokens))
        self.tokenization = checked_instance("tokenization", tokenization, Tokenization, 'as Tokenization("words")')
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            raise VocabularyError(
                f"the vocabulary of {len(self.tokens):,} tokens holds {reprlib.repr(self._first_duplicate())} twice"
            )
        if not _is_unicode("".join(self.tokens)):
            wrong = next(token for token in self.tokens if not _is_unicode(token))
            raise VocabularyError(f"the token {reprlib.repr(wrong)} is no Unicode text: it holds half a surrogate pair")
        for token in tokenization.required:
            if token not in self._ids:
                kind = "special token" if token in tokenization.specials else "token"
                raise VocabularyError(
                    f"the vocabulary of {len(self.tokens):,} tokens lacks its {kind} {reprlib.repr(token)}"
                )
        if tokenization.unit == "subword" and (others := self._ids.keys() - tokenization.required):
            raise VocabularyError(
                f"the vocabulary of {len(self.tokens):,} tokens holds {reprlib.repr(min(others))}, which is no "
                f"byte and which none of its {len(tokenization.merges):,} merges makes"
            )
        self.unknown_id = self._ids[tokenization.unknown]
        self.end_of_sentence_id = self._ids[tokenization.end_of_sentence]
        self._barred: tuple[frozenset[str], BarredWords] | None = None

    def _first_duplicate(self) -> str:
        return next(token for index, token in enumerate(self.tokens) if self._ids[token] != index)

    @classmethod
    def from_json(cls, tokens: Any, tokenization: Any) -> "Vocabulary":
        """Build from parsed JSON: a list of strings and a tokenization object.

        Raises:
            VocabularyError: One of them has another form.
        """
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise VocabularyError(f"the vocabulary must be a list of strings, found {type(tokens).__name__}")
        return cls(tokens, Tokenization.from_json(tokenization))

    def tokens_json(self) -> str:
        """The tokens as a compact JSON list."""
        return json.dumps(self.tokens, ensure_ascii=True, separators=(",", ":"))

    @cached_property
    def sha256(self) -> str:
        """Hash of `tokens_json`, as 64 hexadecimal digits."""
        return hashlib.sha256(self.tokens_json().encode()).hexdigest()

    @cached_property
    def _alphabetical(self) -> list[str]:
        return sorted(set(self.tokens).difference(self.tokenization.specials))

    @cached_property
    def _alphabetical_ids(self) -> list[int]:
        return [self._ids[word] for word in self._alphabetical]

    def __repr__(self) -> str:
        first = ", ".join(map(repr, self.tokens[:4]))
        return f"<Vocabulary of {len(self):,} tokens by the rule {self.tokenization.rule!r}: {first}, ...>"

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return isinstance(token, str) and token in self._ids

    def id(self, token: str) -> int:
        """The token's id, or the unknown token's."""
        return self._ids.get(checked_text("token", token), self.unknown_id)

    def completions(self, prefix: str) -> list[int]:
        """Ids, in order, of the tokens that begin with `prefix`, without the special tokens."""
        prefix = self.tokenization.folded(prefix)
        words = self._alphabetical
        start = bisect_left(words, prefix)
        end = bisect_right(words, prefix, lo=start, key=lambda word: word[: len(prefix)])
        return sorted(self._alphabetical_ids[start:end])

    def forms(self, words: str | Collection[str]) -> set[int]:
        """Ids of the tokens that are one of `words` in any letter case, also with marks around it: `Oh`, `oh,`, `"oh"`.

        Special tokens are never among them. A word that the vocabulary lacks has no ids.

        Raises:
            OptionError: An entry is empty or holds white space, or the model's tokens are not words.
        """
        if words.__class__ is tuple and not words:  # the default, without the time of the checks
            return set()
        words = _checked_never(words)
        if not words:
            return set()
        if self.tokenization.unit != "word":
            raise OptionError(
                f"this model reads {self.tokenization.reads} and has no words; a list of words needs a model of words"
            )
        return {index for form in self._forms_of(words) for index in self._ids_by_form.get(form, ())}

    def word_filter(self, never: str | Collection[str]) -> Callable[[str], bool]:
        """Whether a word is one of `never`, as for `forms`; also for words that are not tokens.

        Raises:
            OptionError: An entry is empty or holds white space.
        """
        forms = self._forms_of(_checked_never(never))
        if not forms:
            return lambda word: False
        return lambda word: not forms.isdisjoint(self._forms_in(word))

    def barred_words(self, never: str | Collection[str]) -> BarredWords | None:
        """For `bpe`: the tokens that would complete a word of `never`; None without words. The last list is kept.

        Raises:
            OptionError: An entry is empty or holds white space.
        """
        forms = frozenset(self._forms_of(_checked_never(never)))
        if forms and (self._barred is None or self._barred[0] != forms):
            self._barred = forms, BarredWords(self, forms)
        return self._barred[1] if forms and self._barred else None

    @cached_property
    def inside_words(self) -> NDArray[np.bool_]:
        """For `bpe`: whether a token goes on with a word, by a letter, a digit, or one of them after an apostrophe."""
        return np.array([_GOES_ON.match(token) is not None for token in self.tokens])

    @cached_property
    def spaces(self) -> Spaces:
        """The tokens of spaces."""
        return Spaces(self)

    def _forms_of(self, words: Collection[str]) -> set[str]:
        return {form for word in map(self._form, words) for form in (word, word.rstrip("."))} - {""}

    @cached_property
    def _ids_by_form(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for token in self._alphabetical:
            for each in self._forms_in(token) - {""}:
                found.setdefault(each, []).append(self._ids[token])
        return found

    def _forms_in(self, token: str) -> set[str]:
        """A token's form, also without the marks around it."""
        form = self._form(token)
        return {form, form.strip(MARKS_AROUND)}

    def _form(self, word: str) -> str:
        return self.tokenization.folded(word).casefold()

    def encode(self, text: str) -> list[int]:
        """Ids of the tokens of `text`; unknown ones get `unknown_id`, a newline `end_of_sentence_id`."""
        return self.ids(self.tokenization.split(text))

    def ids(self, tokens: Iterable[str]) -> list[int]:
        """The tokens' ids, for tokens as `Tokenization.split` makes them; unknown ones get `unknown_id`."""
        unknown, find = self.unknown_id, self._ids.get
        return [find(token, unknown) for token in tokens]

    def decode(self, token_ids: Iterable[int]) -> str:
        """Text of the tokens with these ids, which `encode` splits into these tokens again.

        For `bpe`, `decode(encode(text))` is `text`; bytes that are no UTF-8 become U+FFFD.

        Raises:
            TokenError: An id lies outside the vocabulary.
        """
        if isinstance(token_ids, str) or not isinstance(token_ids, Iterable):
            raise wrong_type("token_ids", token_ids, "a list of token ids")
        decoder = TextDecoder(self)
        return "".join(map(decoder.add, token_ids)) + decoder.finish()

    def text(self, token_id: int) -> str:
        """The token for display (see `Tokenization.text`)."""
        return self.tokenization.text(self.token(token_id))

    def token(self, token_id: int) -> str:
        """The token with this id.

        Raises:
            TokenError: The id lies outside the vocabulary.
        """
        try:
            if 0 <= token_id < len(self.tokens):
                return self.tokens[token_id]
        except (TypeError, ValueError):
            raise wrong_type("a token id", token_id, "a whole number (int)") from None
        raise TokenError(f"token id {token_id} is outside the vocabulary, expected 0 to {len(self.tokens) - 1}")

    def is_boundary(self, token_id: int) -> bool:
        """Whether a text that ends with this token ends at a word boundary; with tokens that are words it does."""
        return self.tokenization.unit == "word" or self.text(token_id).isspace()


def _checked_never(words: str | Collection[str]) -> list[str]:
    words = [words] if isinstance(words, str) else checked_texts("never", words)
    for word in words:
        if word.split() != [word]:
            raise OptionError(f"{word!r} is not a word; expected words without white space, one an entry")
    return words


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

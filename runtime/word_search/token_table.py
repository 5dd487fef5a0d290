"""TokenTable: which tokens begin a word, which make it longer, which hold typed letters; for the rule `bpe`.

A word is a piece of the rule (see `text.byte_pairs`) without the space before it: letters, with an apostrophe and more
letters; digits; marks. White space is no word.
"""

import re
from bisect import bisect_left, bisect_right
from enum import IntEnum
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from ..text.byte_alphabet import bytes_of
from ..text.byte_pairs import MARKS

if TYPE_CHECKING:
    from ..vocabulary import Vocabulary

_CACHED_PAIRS = 1 << 16

Ids = NDArray[np.int64]


class Kind(IntEnum):
    """What a word is after its last token: that decides which tokens make it longer."""

    NOTHING = 0
    LETTERS = 1
    TAIL = 2
    """Letters after an apostrophe."""
    APOSTROPHE = 3
    """Letters and an apostrophe: letters may follow, else it is a mark after the word."""
    DIGITS = 4
    MARKS = 5
    SPACE = 6
    """The space before a word."""


_LETTERS, _DIGITS, _MARKS = rb"[A-Za-z\x80-\xff]", rb"[0-9]", f"[{MARKS}]".encode()
_FORMS = [
    (re.compile(rb"(?s) ?%s+" % _LETTERS), Kind.LETTERS),
    (re.compile(rb"(?s) ?%s+'%s+" % (_LETTERS, _LETTERS)), Kind.TAIL),
    (re.compile(rb"(?s) ?%s+'" % _LETTERS), Kind.APOSTROPHE),
    (re.compile(rb" ?%s+" % _DIGITS), Kind.DIGITS),
    (re.compile(rb" ?%s+" % _MARKS), Kind.MARKS),
    (re.compile(rb" "), Kind.SPACE),
]
_APOSTROPHE_AND_LETTERS = re.compile(rb"(?s)'%s+" % _LETTERS)
_LONGER = {
    Kind.NOTHING: re.compile(rb"(?!)"),
    Kind.LETTERS: re.compile(rb"'?%s" % _LETTERS),
    Kind.TAIL: re.compile(_LETTERS),
    Kind.APOSTROPHE: re.compile(_LETTERS),
    Kind.DIGITS: re.compile(_DIGITS),
    Kind.MARKS: re.compile(_MARKS),
    Kind.SPACE: re.compile(rb"[^ \x00-\x1f\x7f]"),
}
"""What the bytes of a token begin with that makes a word longer; an apostrophe alone may."""
_WORDS = (Kind.LETTERS, Kind.TAIL, Kind.APOSTROPHE)


@final
class TokenTable:
    """The tokens of a vocabulary by their bytes. Immutable but for a cache; thread-safe.

    Attributes:
        data: Each token's bytes; none for the unknown token.
        apostrophe: Id of the token `'`.
        first: int8 [vocabulary], the `Kind` of a word after its first token, NOTHING for tokens that begin no word.
        firsts: `first` as bytes; what Python reads fast.
        moves: Kind of a word -> as `firsts` for the tokens that make it longer, 0 for those that do not.
        begins: Kind of the text before -> as `firsts` for the next word, 0 for tokens that do not begin it there.
        ends: Kind of a word -> ids of the tokens that do not make it longer; for letters without the token `'`.
        quotes, letters_only, only_apostrophe: Parts of `moves`.
        ends_of_apostrophe: Ids of the tokens that make neither marks nor letters longer.
    """

    def __init__(self, vocabulary: "Vocabulary") -> None:
        """Sort the tokens of a vocabulary of the rule `bpe`."""
        self._tokenization = vocabulary.tokenization
        unknown = vocabulary.unknown_id
        self.data = [b"" if index == unknown else bytes_of(token) for index, token in enumerate(vocabulary.tokens)]
        self._tokens = vocabulary.tokens
        self.apostrophe = vocabulary.id("'")
        self.first = np.array([self._first(index) for index in range(len(self.data))], np.int8)
        spaced = np.array([data[:1] == b" " for data in self.data])
        longer = self._longer(spaced)
        self.firsts = self.first.tobytes()
        self.begins: dict[int, bytes] = {
            kind: np.where(self._begins(kind, spaced), self.first, 0).tobytes() for kind in Kind
        }
        self.ends: dict[int, Ids] = {kind: np.flatnonzero(self._ends(kind)) for kind in Kind}
        self.ends[Kind.LETTERS] = np.setdiff1d(self.ends[Kind.LETTERS], [self.apostrophe])
        is_apostrophe = np.arange(len(self.data)) == self.apostrophe
        self.quotes = np.where(is_apostrophe, 0, longer[Kind.MARKS]).tobytes()
        self.letters_only = np.where(is_apostrophe, 0, longer[Kind.LETTERS]).tobytes()
        self.only_apostrophe = (is_apostrophe * np.int8(Kind.MARKS)).tobytes()
        self.ends_of_apostrophe = np.intersect1d(self.ends[Kind.APOSTROPHE], self.ends[Kind.MARKS])
        self.moves: dict[int, bytes] = {kind: longer[kind].tobytes() for kind in Kind}
        self._order: Ids = np.array(sorted(range(len(self.data)), key=self.data.__getitem__), np.int64)
        self._sorted = [self.data[index] for index in self._order.tolist()]
        self._ids = {data: index for index, data in enumerate(self.data) if data}
        self._follows: dict[tuple[int, int], bool] = {}

    def _first(self, index: int) -> Kind:
        data = self.data[index]
        kind = next((kind for form, kind in _FORMS if form.fullmatch(data)), Kind.NOTHING)
        return kind if kind and self._tokenization.is_subword(self._tokens[index]) else Kind.NOTHING

    def _longer(self, spaced: NDArray[np.bool_]) -> NDArray[np.int8]:
        """int8 [kinds, vocabulary], the `Kind` of a word that a token makes longer; a token with a space makes none."""
        longer = np.zeros((len(Kind), len(self.data)), np.int8)
        plain = np.where(spaced, Kind.NOTHING, self.first)
        letters = np.isin(plain, _WORDS)
        tails = np.array([bool(_APOSTROPHE_AND_LETTERS.fullmatch(data)) for data in self.data])
        longer[Kind.LETTERS] = np.where(letters, plain, 0)
        longer[Kind.LETTERS, tails] = Kind.TAIL
        longer[Kind.LETTERS, self.apostrophe] = Kind.APOSTROPHE
        for kind in (Kind.TAIL, Kind.APOSTROPHE):
            longer[kind, plain == Kind.LETTERS] = Kind.TAIL
        for kind in (Kind.DIGITS, Kind.MARKS):
            longer[kind, plain == kind] = kind
        longer[Kind.SPACE] = plain
        return longer

    def _begins(self, kind: Kind, spaced: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """After white space a word begins without a space; else with one, or where another kind of word begins."""
        word = self.first != Kind.NOTHING
        if kind in (Kind.NOTHING, Kind.SPACE):
            return np.asarray(word & ~spaced)
        letters = np.isin(self.first, _WORDS)
        digits, marks = self.first == Kind.DIGITS, self.first == Kind.MARKS
        same = {Kind.DIGITS: digits, Kind.MARKS: marks, Kind.APOSTROPHE: letters | marks}.get(kind, letters)
        return np.asarray(word & (spaced | ~same))

    def _ends(self, kind: Kind) -> NDArray[np.bool_]:
        longer = _LONGER[kind]
        return np.array([not longer.match(data) for data in self.data])

    def kind_after(self, token_id: int) -> Kind:
        """What a text ends with after this token, whatever stands before it."""
        data = self.data[token_id]
        if _APOSTROPHE_AND_LETTERS.fullmatch(data):
            return Kind.TAIL
        kind = Kind(int(self.first[token_id]))
        return Kind.NOTHING if kind == Kind.SPACE else kind

    def covering(self, letters: bytes) -> Ids:
        """Ids of the tokens that begin with these bytes, by their bytes; all for none."""
        start = bisect_left(self._sorted, letters)
        end = bisect_right(self._sorted, letters, lo=start, key=lambda data: data[: len(letters)])
        return self._order[start:end]

    def within(self, letters: bytes) -> list[int]:
        """Ids of the tokens with which these bytes begin, without that of all of them."""
        found = (self._ids.get(letters[:size]) for size in range(1, len(letters)))
        return [index for index in found if index is not None]

    def follows(self, left: int, right: int) -> bool:
        """Whether the rule writes these two neighbours in a piece so, and not with other tokens."""
        pair = (left, right)
        found = self._follows.get(pair)
        if found is None:
            if len(self._follows) >= _CACHED_PAIRS:
                self._follows.clear()
            tokens = (self._tokens[left], self._tokens[right])
            found = self._follows[pair] = self._tokenization.is_subword(*tokens)
        return found


def decoded(data: bytes) -> str | None:
    """The text of these bytes, None if they are no UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None

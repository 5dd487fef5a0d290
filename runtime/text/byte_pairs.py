"""Byte-pair encoding: text is cut into pieces, and the bytes of a piece are merged pair by pair.

A piece is, with at most 32 characters each:

- a word: letters, and once an apostrophe with letters after it (`don't`); letters are `A-Z`, `a-z` and every code point
  from U+0080 on;
- digits, or ASCII marks;
- the newline, always alone;
- spaces, or other ASCII control characters (CR, tab, NUL).

One space before a word, digits or marks belongs to them. So the rule needs no Unicode tables and is the same in every
language. In a piece, the two neighbours that come first in the list of merges become one, the leftmost ones first,
until no neighbours are in the list.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, final

from .byte_alphabet import token_of

_CACHED_PIECES = 1 << 16

MARKS = r"!-/:-@\[-`{-~"
"""ASCII marks, for a character class of a regular expression."""
_LETTERS, _CONTROLS = "A-Za-z\u0080-\U0010ffff", r"\x00-\x09\x0b-\x1f\x7f"
PIECE = (
    rf" ?[{_LETTERS}]{{1,32}}(?:'[{_LETTERS}]{{1,32}})?| ?[0-9]{{1,32}}| ?[{MARKS}]{{1,32}}|\n"
    rf"| {{1,32}}(?![^ \n{_CONTROLS}])|[{_CONTROLS}]{{1,32}}"
)
"""Regular expression of a piece; each piece begins where the one before ends."""

_LONGEST_PIECE = 1 + 4 * 32 + 1 + 4 * 32
"""Bytes of the longest piece: a space, letters of four bytes, an apostrophe, and as many letters."""

_is_control = re.compile(rf"\n|[{_CONTROLS}]+").fullmatch
is_letters = re.compile(rf" ?[{_LETTERS}]+").fullmatch
"""Whether a piece consists of letters, with the space before them."""
_find_pieces = re.compile(PIECE).findall
_SURROGATES = re.compile("[\ud800-\udfff]")


def unicode_text(text: str) -> str:
    """`text` with U+FFFD for every half of a surrogate pair, which has no bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text)
    return text


def pieces(text: str) -> list[str]:
    """The pieces of a text; together they are the text (see `unicode_text`)."""
    found: list[str] = _find_pieces(unicode_text(text))
    return found


def pieces_of_chunks(chunks: Iterable[str]) -> Iterator[list[str]]:
    """The pieces of a text that arrives in chunks, cut anywhere: the same as those of the whole text.

    The last two pieces may change with the next two characters, so they wait.
    """
    held = ""
    for chunk in chunks:
        found = pieces(held + chunk)
        held = "".join(found[-2:])
        yield found[:-2]
    yield pieces(held)


@final
class BytePairs:
    """Tokens of text by a list of merges. Thread-safe; recent pieces are kept with their tokens.

    Example:
        >>> from lmtool.runtime.text.byte_pairs import BytePairs
        >>> BytePairs(["t h", "th e", "Ġ the"]).tokens("the the\\n")
        ['the', 'Ġthe', 'Ċ']
    """

    def __init__(self, merges: Sequence[str]) -> None:
        """`merges`: valid ones, `left right` each, the first to apply first."""
        self._merges = merges
        pairs = [merge.split(" ") for merge in merges]
        self._ranks = {(left, right): rank for rank, (left, right) in enumerate(pairs)}
        self._results = [left + right for left, right in pairs]
        self._none = len(pairs)
        self._found = _Cache(self._merged)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the merges without the cache."""
        return BytePairs, (self._merges,)

    def tokens(self, text: str) -> list[str]:
        """The tokens of a text, in the byte alphabet."""
        return self._tokens_of(pieces(text))

    def tokens_unfinished(self, text: str) -> tuple[list[str], str]:
        """The tokens of a text without its last piece, which further text may make longer, and that piece as text.

        It is empty after a newline or other controls. A space at the end belongs to the piece that follows it.
        """
        *before, last = pieces(text) or [""]
        if last.strip(" ") and not _is_control(last):
            if last == "'" and before and is_letters(before[-1]):
                last = before.pop() + last
            return self._tokens_of(before), last
        if last.endswith(" "):
            before, last = [*before, *filter(None, [last[:-1]])], " "
            return self._tokens_of(before), last
        return self._tokens_of([*before, last] if last else before), ""

    def tokens_of_chunks(self, chunks: Iterable[str]) -> Iterator[list[str]]:
        """The tokens of a text that arrives in chunks, cut anywhere: the same as `tokens` of the whole text."""
        return map(self._tokens_of, pieces_of_chunks(chunks))

    def _tokens_of(self, found: list[str]) -> list[str]:
        return list(itertools.chain.from_iterable(map(self._found.__getitem__, found)))

    def _merged(self, piece: str) -> tuple[str, ...]:
        return self.merged(token_of(piece.encode()))

    def merged(self, piece: str) -> tuple[str, ...]:
        """The tokens of one piece in the byte alphabet, which may end within a character."""
        tokens = list(piece)
        ranks = list(map(self._rank, tokens, tokens[1:]))
        while ranks and (rank := min(ranks)) < self._none:
            at = ranks.index(rank)
            tokens[at : at + 2] = [self._results[rank]]
            del ranks[at]
            for before in range(max(at - 1, 0), min(at + 1, len(ranks))):
                ranks[before] = self._rank(tokens[before], tokens[before + 1])
        return tuple(tokens)

    def is_subword(self, tokens: tuple[str, ...]) -> bool:
        """Whether a piece of these tokens' bytes is split into these tokens; a long token may be in no piece."""
        piece = "".join(tokens)
        return len(piece) <= _LONGEST_PIECE and self.merged(piece) == tokens

    def _rank(self, left: str, right: str) -> int:
        return self._ranks.get((left, right), self._none)


@final
class _Cache(dict[str, tuple[str, ...]]):
    """Piece -> tokens, made when they are asked for; emptied when it is full."""

    def __init__(self, make: Callable[[str], tuple[str, ...]]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, piece: str) -> tuple[str, ...]:
        if len(self) >= _CACHED_PIECES:
            self.clear()
        made = self[piece] = self._make(piece)
        return made

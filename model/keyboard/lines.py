"""The lines of a text as they are typed, and the words in them."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

LONGEST_LINE = 2_000
"""Characters. A longer line is typed in parts, since the time of a keystroke grows with the line before it."""

_JOINED = "\0"  # stands for a character that continues a word and is no \w; no text holds NUL
_LETTERS = rf"\w[\w{_JOINED}]*"
_WORD = re.compile(rf"{_LETTERS}(?:(?:['’.\-/@&+·]|(?<=\d)[,:](?=\d)){_LETTERS})*")  # noqa: RUF001
_JOINERS = "\u200c\u200d"


class Line(NamedTuple):
    """A line to type.

    Attributes:
        text: Its characters, without the newline.
        enters: Whether a newline ends it. The last line of a text may have none; only the last part of a long one does.
    """

    text: str
    enters: bool


def typed_lines(chunks: Iterable[str]) -> Iterator[Line]:
    """The lines of a text that comes in chunks, cut anywhere; long ones in parts, cut after white space if possible."""
    rest = ""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split("\n")
        for line in lines:
            yield from _parts(line, LONGEST_LINE, enters=True)
        *parts, (rest, _) = _parts(rest, 2 * LONGEST_LINE, enters=False)
        yield from parts
    if rest:
        yield from _parts(rest, LONGEST_LINE, enters=False)


def _parts(line: str, most: int, enters: bool) -> Iterator[Line]:
    """Parts of `LONGEST_LINE` characters or fewer, but the last one of up to `most`."""
    at = 0
    while len(line) - at > most:
        piece = line[at : at + LONGEST_LINE]
        size = next((end for end in range(len(piece), 0, -1) if piece[end - 1].isspace()), len(piece))
        yield Line(piece[:size], False)
        at += size
    yield Line(line[at:], enters)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each word: a run of letters, digits and their marks, single joints within it included."""
    if not text.isascii():
        text = "".join(_JOINED if _continues_word(character) else character for character in text)
    return [match.span() for match in _WORD.finditer(text)]


def _continues_word(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character)[0] == "M"

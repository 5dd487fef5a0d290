# ruff: noqa: RUF001, RUF002 - the characters are meant
"""The rules that split prose into words: `words-2`, and `words`, which older artifacts have.

A rule reads text in two steps. `folded` brings it into the form of the tokens: lower case, one form of each mark. Then
`pattern` finds the tokens in it. Special tokens are found before all others, white space separates tokens.
"""

import functools
import re
import string
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import final

MARKS_AROUND = f"{string.punctuation}\u201c\u201d\u2018\u2019\u00ab\u00bb\u2026\u2013\u2014"
"""Marks that may stand around a word of `Vocabulary.forms`."""


@final
@dataclass(frozen=True)
class WordRule:
    """One rule for words.

    Attributes:
        folded: (text, end-of-sentence token) -> text in which its tokens occur literally, the end of a sentence as a
            newline or as its token. The length is the same, except for text that is not in the normal form NFC or holds
            invisible characters.
        pattern: Whether a text is ASCII -> regular expression of a token that is not special, in a text without white
            space.
        touches: (token, previous token) -> whether no white space is between them in a written text.
        written: Token -> its text, where they differ.
    """

    folded: Callable[[str, str], str]
    pattern: Callable[[bool], str]
    touches: Callable[[str, str], bool]
    written: Mapping[str, str] = field(default_factory=dict)


def with_newlines(text: str, same_length: bool = True) -> str:
    """Every line end, CR, LF or CRLF, as a newline; with `same_length` CRLF becomes a space and a newline."""
    if "\r" not in text:
        return text
    return text.replace("\r\n", " \n" if same_length else "\n").replace("\r", "\n")


_OPENING = "([{“‘«‹¿¡（「『【"
_CLOSING = frozenset(".,;:!?)]}%…\"'»›،؛؟।॥、。，．；：！？）」』】")
_BEFORE_LETTERS = frozenset("、。，．；：！？）」』】")
_BEFORE_DIGITS = frozenset("$€£¥₹₩₽₪₫฿")

_REPLACED = {
    **dict.fromkeys("\u00ad\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff", ""),
    **dict.fromkeys("’ʼ‘‚‛＇", "'"),
    **dict.fromkeys("“”„‟＂", '"'),
    "\u200b": " ",
    "\u2011": "-",
}
"""Invisible characters vanish (soft hyphen, writing direction, word joiner), the zero-width space separates words; the
forms of apostrophe, quotation mark and hyphen are one."""
_QUOTES = (re.compile('"["\']*'), re.compile("'[\"']*"))
"""Runs of quotation marks, by the first one: a regular expression finds one character faster than one of two."""
_OPENED = str.maketrans("\"'", "“‘")


def _folded(text: str, end_of_sentence: str) -> str:
    text = with_newlines(text)
    if not text.isascii():
        for old, new in _REPLACED.items():
            text = text.replace(old, new)
        text = unicodedata.normalize("NFC", text).replace("\u0130", "i")
    text = text.lower().replace(end_of_sentence, "\n".rjust(len(end_of_sentence)))
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    for quotes in _QUOTES:
        text = quotes.sub(_opened, text)
    return text


def _opened(quotes: re.Match[str]) -> str:
    """Quotation marks that follow white space or an opening mark, as `“` and `‘`; others as they are."""
    before = quotes.string[quotes.start() - 1 : quotes.start()]
    return quotes[0].translate(_OPENED) if not before or before in _OPENING or before.isspace() else quotes[0]


@functools.cache
def _marks() -> str:
    """A character class of the combining marks (category M), as ranges."""
    points = [*range(0x300, 0x1F000), *range(0xE0100, 0xE01F0)]
    marks = [point for point in points if unicodedata.category(chr(point))[0] == "M"]
    starts = [point for point in marks if unicodedata.category(chr(point - 1))[0] != "M"]
    ends = [point for point in marks if unicodedata.category(chr(point + 1))[0] != "M"]
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


def _pattern(is_ascii: bool) -> str:
    """A token: an address, number, option or other word; a run of operators; an emoji, a flag, or another mark."""
    marks = "" if is_ascii else _marks()
    opening = re.escape(_OPENING)
    letters = rf"\w[\w{marks}\u200c\u200d]*"
    joints = r"'.\-/@&+\u00b7\u05be\u05f3\u05f4"
    between = rf"[{joints},:\u2013](?:(?<=[{joints}])|(?<=\d[,:\u2013])(?=\d))"
    address = rf"://[^\"“‘<>{re.escape(''.join(sorted(_BEFORE_LETTERS)))}]*[\w/{marks}]"
    word = rf"{letters}(?:{between}{letters})*(?:{address})?"
    sign = rf"(?<![^{opening}])(?:--?|[@#+]|[~.]?\.?/|[~.])(?=\w)"
    operators = r"[-=*#~+&|<>/^][-=*#~+&|>/^]+"
    if is_ascii:
        return rf"{word}|{sign}{word}|{operators}|[^\w]"
    extended = rf"[^\w{opening}\"'][{marks}\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"
    emoji = rf"[\U0001f1e6-\U0001f1ff]{{2}}|{extended}(?:\u200d{extended})*"
    return rf"{word}|{sign}{word}|{operators}|{emoji}|[{opening}\"']"


def _touches(token: str, previous: str) -> bool:
    return (
        token in _CLOSING
        or previous in _OPENING
        or (previous in _BEFORE_DIGITS and token[:1].isdecimal())
        or (previous in _BEFORE_LETTERS and token[:1].isalnum())
    )


_FIRST_JOINTS = re.escape("'\u2019.-")
_FIRST_CLOSING = frozenset(".,;:!?)]}%…")
_FIRST_OPENING = frozenset("([{")

WORD_RULES = {
    "words": WordRule(
        folded=lambda text, end_of_sentence: text.lower(),
        pattern=lambda is_ascii: rf"\w+(?:[{_FIRST_JOINTS}]\w+)*|[^\w]",
        touches=lambda token, previous: token in _FIRST_CLOSING or previous in _FIRST_OPENING,
    ),
    "words-2": WordRule(_folded, _pattern, _touches, {"“": '"', "‘": "'"}),
}


@functools.lru_cache(maxsize=32)
def finder(rule: str, specials: tuple[str, str], is_ascii: bool) -> Callable[[str], list[str]]:
    """The function that finds the tokens in a piece of folded text without white space."""
    alternatives = [*map(re.escape, specials), WORD_RULES[rule].pattern(is_ascii)]
    return re.compile("|".join(alternatives), re.ASCII if is_ascii else re.UNICODE).findall

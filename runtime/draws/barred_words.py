"""BarredWords: which tokens would complete a word that is never written, for a model of parts of words.

A word is a piece of the rule `bpe`, or several without white space between them (`e-mail`). What completes it depends
on the letters before, so a table maps each beginning of a word to the tokens that are its rest.
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from ..text.byte_alphabet import bytes_of
from ..text.byte_pairs import is_letters, pieces
from ..words import MARKS_AROUND

if TYPE_CHECKING:
    from ..text.text_decoder import TextDecoder
    from ..vocabulary import Vocabulary

_CACHED_ENDS = 1 << 10
_CONTEXTS = ("", "a", "a'", "a'a", "0", "-")
"""Short texts whose ends are continued as those of all texts are: after a space, letters, ..., digits, marks."""
_PARTIAL = "\ufffd"
"""Stands for a character that is not complete, which is a letter of the rule."""


@final
class BarredWords:
    """The tokens that complete a word of a list, after any text. Thread-safe; what was found is kept.

    A word is met as soon as its letters are complete, so a longer one that begins with it needs a token that goes past
    it: without `the`, `theory` is written by ` theory` or ` th` and `eory`, and not by ` the` and `ory`.
    """

    def __init__(self, vocabulary: "Vocabulary", forms: frozenset[str]) -> None:
        """Sort the tokens of a vocabulary of the rule `bpe`, which takes some milliseconds; `forms`: case-folded."""
        self._forms = forms
        self._data = {index: bytes_of(vocabulary.tokens[index]) for index in _ordinary(vocabulary)}
        texts = {index: text for index, data in self._data.items() if (text := _decoded(data))}
        self._rests = _rests(forms, _by_form(texts))
        self._beginnings = {form[:size] for form in forms for size in range(len(form))}
        whole = {index: text for index, text in texts.items() if self._is_word(text.strip(" "))}
        self._whole = {
            context: _ids(index for index, text in whole.items() if self._has_word(context, text))
            for context in _CONTEXTS
        }
        self._found: dict[tuple[str, bytes], NDArray[np.int64]] = {}

    def after(self, text: "TextDecoder") -> NDArray[np.int64]:
        """Ids of the tokens that would complete a word after this text, int64; some may be there twice."""
        end = (text.letters, text.partial)
        found = self._found.get(end)
        if found is None:
            if len(self._found) >= _CACHED_ENDS:
                self._found.clear()
            whole = self._whole[_context(end[0] + _PARTIAL if end[1] else end[0])]
            rests = _ids(self._find_rests(*end))
            found = self._found[end] = np.concatenate([whole, rests]) if len(rests) else whole
        return found

    def _find_rests(self, letters: str, partial: bytes) -> Iterator[int]:
        """Tokens that complete a word whose beginning the text ends with."""
        for start in _starts(letters + _PARTIAL if partial else letters):
            beginning = letters[start:].casefold()
            if partial:
                yield from self._completing(beginning, partial)
                continue
            for each in {beginning, beginning.lstrip(MARKS_AROUND)}:
                yield from self._rests.get(each, ())

    def _completing(self, beginning: str, partial: bytes) -> Iterator[int]:
        """Tokens that complete a character, and with it a word."""
        if beginning.lstrip(MARKS_AROUND) not in self._beginnings:
            return
        for index, data in self._data.items():
            if 0x80 <= data[0] < 0xC0 and (text := _decoded(partial + data)) and self._is_word(beginning + text):
                yield index

    def _is_word(self, text: str) -> bool:
        form = text.casefold()
        return form in self._forms or form.strip(MARKS_AROUND) in self._forms

    def _has_word(self, context: str, text: str) -> bool:
        """Whether a word begins in `text`, or with it, and ends in it."""
        whole, end = context + text, len(context) + len(text)
        starts = [start for start in _starts(whole) if start >= len(context)]
        ends = [*starts[1:], end]
        words = [whole[start : ends[place]] for place, start in enumerate(starts)]
        return any(self._is_word(word.strip(" ")) for word in [*words, *(whole[start:] for start in starts)])


def _ids(indices: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(indices, np.int64)


def _ordinary(vocabulary: "Vocabulary") -> list[int]:
    """The tokens without the special ones."""
    specials = {vocabulary.unknown_id, vocabulary.end_of_sentence_id}
    return [index for index in range(len(vocabulary)) if index not in specials]


def _by_form(texts: dict[int, str]) -> dict[str, list[int]]:
    """The tokens by their case-folded texts, also without marks at the end."""
    found: dict[str, list[int]] = {}
    for index, text in texts.items():
        form = text.casefold()
        for each in {form, form.rstrip(MARKS_AROUND)} - {""}:
            found.setdefault(each, []).append(index)
    return found


def _rests(forms: Collection[str], by_form: dict[str, list[int]]) -> dict[str, list[int]]:
    """Beginning of a word -> the tokens that are its rest."""
    found: dict[str, list[int]] = {}
    for form in forms:
        for size in range(1, len(form)):
            if ids := by_form.get(form[size:]):
                found.setdefault(form[:size], []).extend(ids)
    return found


def _starts(letters: str) -> list[int]:
    """Where the pieces of a text begin."""
    return [0, *accumulate(map(len, pieces(letters)))][:-1]


def _context(letters: str) -> str:
    """The one of `_CONTEXTS` that is continued as these letters."""
    *_, before, last = ["", "", *pieces(letters)]
    if last == "'" and is_letters(before):
        return "a'"
    if not last or last[-1].isalpha() or not last.isascii():
        return "a'a" if "'" in last else "a" if last else ""
    return "0" if last[-1].isdigit() else "-"


def _decoded(data: bytes) -> str:
    """The text of these bytes, empty if they are no UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""

"""A text typed letter by letter against suggestions: which words they foresee, and how many keys they save.

- A keystroke is a character (code point) of the text, Enter, or the choice of a suggestion. A capital is one keystroke.
- The typist looks at the suggestions before the first letter of a word and after each letter of it, and chooses the
  first one of those shown that is right. The space that follows a chosen word costs nothing, as on keyboards.
- A suggestion is right if it writes the rest of the word as the text has it, and nothing of the next word.
- All else is typed: white space, marks, words that are not suggested.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, final

from ...runtime.suggestions import Suggestion
from .latencies import Latencies
from .lines import Line, word_spans

ASKED = 5
SHOWN = 3
_NOT_FORESEEN = ASKED + 1


class Suggester(Protocol):
    """What suggests: an `Autocompletion`, or anything with these two methods."""

    def suggestions(self, line: str, /) -> Sequence[Suggestion]:
        """Continuations of a line, the most probable first."""

    def end_line(self, line: str, /) -> None:
        """Read the line and its end."""


@final
@dataclass
class TypingCounts:
    """What was counted while a text was typed.

    Attributes:
        letters: Keystrokes without suggestions: the characters of the text, newlines included.
        keystrokes: Keystrokes with suggestions.
        words: Words of the text.
        ranks: Rank, from 1 -> words whose first right suggestion before their first letter had it.
        chosen: Suggestions that were chosen.
        free_spaces: Spaces after them, which cost no keystroke.
        latencies: Time from each keystroke to its suggestions.
    """

    letters: int = 0
    keystrokes: int = 0
    words: int = 0
    ranks: Counter[int] = field(default_factory=Counter)
    chosen: int = 0
    free_spaces: int = 0
    latencies: Latencies = field(default_factory=Latencies)

    def foreseen(self, most: int) -> int:
        """Words that were among the first `most` suggestions before their first letter."""
        return sum(count for rank, count in self.ranks.items() if rank <= most)


@final
class Typist:
    """Types lines and counts in `counts`."""

    def __init__(
        self, suggester: Suggester, ignore_case: bool = False, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Begin a text.

        Args:
            suggester: Has read nothing. It gives `ASKED` suggestions, of which the first `SHOWN` are shown.
            ignore_case: A suggestion is right in any letter case.
            clock: Times keystrokes, in seconds.
        """
        self._clock = clock
        self.counts = TypingCounts()
        self._suggester = suggester
        self._fold: Callable[[str], str] = str.casefold if ignore_case else str
        self._offered = suggester.suggestions("")

    def type(self, line: Line) -> None:
        """Type a line, and Enter if it has a newline."""
        text, at = line.text, 0
        for (start, end), (limit, _) in pairwise([*word_spans(text), (len(text), len(text))]):
            self._type_letters(text, at, start)
            at = max(at, start)
            self._look(text, at, end, limit)
            at = self._type_word(text, at, end, limit)
        self._type_letters(text, at, len(text))
        self._end(line)

    def _type_letters(self, text: str, at: int, stop: int) -> None:
        for place in range(at + 1, stop + 1):
            self._press(text[:place])

    def _look(self, text: str, start: int, end: int, limit: int) -> None:
        """Count a word by the rank of the first right suggestion before its first letter."""
        right = [bool(self._reached(entry, text, start, end, limit)) for entry in self._offered[:ASKED]]
        self.counts.words += 1
        self.counts.ranks[right.index(True) + 1 if any(right) else _NOT_FORESEEN] += 1

    def _type_word(self, text: str, at: int, end: int, limit: int) -> int:
        """Type letters of a word until its rest is suggested; return the position after it."""
        while at < end:
            for entry in self._offered[:SHOWN]:
                if reached := self._reached(entry, text, at, end, limit):
                    return self._choose(text, reached)
            at += 1
            self._press(text[:at])
        return at

    def _reached(self, entry: Suggestion, text: str, at: int, end: int, limit: int) -> int:
        """The position in `text` that a suggestion at `at` writes up to if it is right, else 0.

        It must reach the end of the word, `end`, and must not pass the first letter of the next one, `limit`.
        """
        start = at + entry.start
        stop = start + len(entry.text)
        right = start >= 0 and end <= stop <= limit and self._fold(entry.text) == self._fold(text[start:stop])
        return stop if right else 0

    def _choose(self, text: str, reached: int) -> int:
        self.counts.chosen += 1
        if text[reached : reached + 1] == " " and text[reached - 1] != " ":
            self.counts.free_spaces += 1
            reached += 1
        self._press(text[:reached])
        return reached

    def _press(self, line: str) -> None:
        began = self._clock()
        self._offered = self._suggester.suggestions(line)
        self._count_key(began)

    def _end(self, line: Line) -> None:
        self.counts.letters += len(line.text) + line.enters
        began = self._clock()
        self._suggester.end_line(line.text)
        self._offered = self._suggester.suggestions("")
        if line.enters:
            self._count_key(began)

    def _count_key(self, began: float) -> None:
        self.counts.latencies.add(self._clock() - began)
        self.counts.keystrokes += 1

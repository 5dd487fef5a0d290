"""The size of a text in bytes and words, by which probabilities compare that are of other tokens."""

import math
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class TextSize:
    """What a text's log-probability is divided by.

    Attributes:
        bytes: Bytes of the text in UTF-8, as it was given.
        words: Pieces between white space, and newlines, as the Penn Treebank counts them.
    """

    bytes: int = 0
    words: int = 0

    @classmethod
    def of(cls, text: str) -> "TextSize":
        """The size of a whole text."""
        size = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
        return cls(size, len(text.split()) + text.count("\n"))

    def followed_by(self, other: "TextSize", joins_words: bool) -> "TextSize":
        """The size of both texts together; `joins_words`: no white space is where they meet."""
        return TextSize(self.bytes + other.bytes, self.words + other.words - joins_words)

    def bits_per_byte(self, log_prob: float) -> float:
        """-log2 of the text's probability for each of its bytes; 0 for an empty text."""
        return -log_prob / math.log(2) / self.bytes if self.bytes else 0.0

    def word_perplexity(self, log_prob: float) -> float:
        """The perplexity of the words; 1 for a text without any."""
        return perplexity(log_prob, self.words)


def perplexity(log_prob: float, count: int) -> float:
    """exp(-log_prob / count), infinite where that overflows; 1 for none."""
    if count == 0:
        return 1.0
    try:
        return math.exp(-log_prob / count)
    except OverflowError:
        return math.inf


@final
class TextCounter:
    """Counts a text that arrives in chunks, cut anywhere."""

    def __init__(self) -> None:
        self.size = TextSize()
        self._ends_in_word = False

    def add(self, chunk: str) -> None:
        """Count the next chunk."""
        if chunk:
            joins = self._ends_in_word and not chunk[0].isspace()
            self.size = self.size.followed_by(TextSize.of(chunk), joins)
            self._ends_in_word = not chunk[-1].isspace()

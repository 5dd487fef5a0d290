"""Texts with common beginnings as a tree of tokens, read level by level."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray


@final
@dataclass(frozen=True)
class Level:
    """The positions of a tree that have read the same number of tokens, and the tokens that follow them.

    Attributes:
        parents: int64 [rows]. For each row, the row of the level before whose text it continues.
        tokens: int64 [rows]. The token that it reads.
        child_rows: int64 [children]. For each token that follows, the row that it follows; they ascend.
        child_tokens: int64 [children].
        places: int64 [texts]. For each text that reaches beyond this level, the place of its next token in the
            concatenation of all texts.
        children: int64 [texts]. The same token's place in `child_tokens`.
    """

    parents: NDArray[np.int64]
    tokens: NDArray[np.int64]
    child_rows: NDArray[np.int64]
    child_tokens: NDArray[np.int64]
    places: NDArray[np.int64]
    children: NDArray[np.int64]


@final
class PrefixTree:
    """The tree of sequences of tokens.

    Attributes:
        ids: int64 [tokens], the sequences' concatenation.
        starts: int64 [sequences], where each begins.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], first: int, vocabulary_size: int) -> None:
        """A tree of `sequences`, which all follow the token `first`."""
        lengths = np.array([len(sequence) for sequence in sequences], np.int64)
        self.starts = np.cumsum(lengths) - lengths
        self.ids = np.fromiter((token for sequence in sequences for token in sequence), np.int64, int(lengths.sum()))
        self._lengths = lengths
        self._first = first
        self._vocabulary_size = vocabulary_size

    def levels(self) -> Iterator[Level]:
        """The levels from the root, whose one row has read the first token, until all texts have ended."""
        texts = np.flatnonzero(self._lengths)
        rows = np.zeros(len(texts), np.int64)
        parents, tokens = np.zeros(1, np.int64), np.array([self._first], np.int64)
        depth = 0
        while len(texts):
            places = self.starts[texts] + depth
            keys, children = np.unique(rows * self._vocabulary_size + self.ids[places], return_inverse=True)
            child_rows, child_tokens = np.divmod(keys, self._vocabulary_size)
            yield Level(parents, tokens, child_rows, child_tokens, places, children)
            depth += 1
            going_on = self._lengths[texts] > depth
            texts = texts[going_on]
            kept, rows = np.unique(children[going_on], return_inverse=True)
            parents, tokens = child_rows[kept], child_tokens[kept]

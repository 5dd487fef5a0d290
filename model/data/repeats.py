"""The lines of the valid and test text that the training text holds too, and how much of the text they are.

Lines are compared by a 64-bit hash of their tokens. Of a held-out text with very many lines a sample is looked for, so
that memory does not grow with the text.
"""

from collections.abc import Iterable, Iterator
from typing import final

import numpy as np
from numpy.typing import NDArray

FEWEST_TOKENS = {"word": 5, "char": 20, "subword": 8}
"""Unit -> number of tokens from which on a line counts; shorter ones are often the same by chance."""

_MOST_HASHES = 1 << 19
_MASK = (1 << 64) - 1
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)

Hashes = NDArray[np.uint64]
Lengths = NDArray[np.int64]


def repeated_shares(
    training: Iterable[NDArray[np.int32]],
    held_out: dict[str, Iterable[NDArray[np.int32]]],
    newline: int,
    fewest_tokens: int,
) -> dict[str, float]:
    """Of the tokens in lines of each held-out text, the share in lines that the training text has too; 0 without lines.

    Newlines do not count. Tokens are counted and not lines, as in a perplexity: headings, which texts share, are few.

    Args:
        training: The tokens of the training text as numbers, in blocks.
        held_out: Name -> the tokens of a text.
        newline: The number that ends a line.
        fewest_tokens: Lines with fewer tokens are left out, and their tokens not counted.
    """
    texts = {name: _Lines(line_hashes(blocks, newline, fewest_tokens)) for name, blocks in held_out.items()}
    for hashes, _ in line_hashes(training, newline, fewest_tokens):
        for lines in texts.values():
            lines.find(hashes)
    return {name: lines.found_share() for name, lines in texts.items()}


def line_hashes(
    blocks: Iterable[NDArray[np.int32]], newline: int, fewest_tokens: int
) -> Iterator[tuple[Hashes, Lengths]]:
    """The hashes and lengths of the lines of a text, a block's at once. A line may reach over blocks.

    The hash of the numbers t0, t1, ... is mix(t0) + mix(t1) B + mix(t2) B^2 ..., modulo 2^64, mixed again. Sums from
    the beginning of the block give those of its lines, as B has an inverse.
    """
    begun, begun_length = 0, 0
    for ids in blocks:
        terms = _mixed(ids.astype(np.uint64)) * _powers(_BASE, len(ids))
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])
        ends = np.flatnonzero(ids == newline)
        starts = np.concatenate([np.zeros(1, np.int64), ends + 1])
        stops = np.append(ends, len(ids))
        hashes = (sums[stops] - sums[starts]) * _powers(_INVERSE, len(ids) + 1)[starts]
        lengths = stops - starts
        hashes[0] = (begun + int(hashes[0]) * pow(_BASE, begun_length, 1 << 64)) & _MASK
        lengths[0] += begun_length
        begun, begun_length = int(hashes[-1]), int(lengths[-1])
        is_long = lengths[:-1] >= fewest_tokens
        yield _mixed(hashes[:-1][is_long]), lengths[:-1][is_long]
    if begun_length >= fewest_tokens:
        yield _mixed(np.array([begun], np.uint64)), np.array([begun_length])


def _powers(base: int, count: int) -> Hashes:
    """1, base, base^2, ..., modulo 2^64."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _mixed(values: Hashes) -> Hashes:
    """Scatter the bits of each value (the finalizer of splitmix64)."""
    values = values + np.uint64(_BASE)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@final
class _Lines:
    """The lines of a held-out text: those with the smallest hashes if they are many."""

    def __init__(self, lines: Iterable[tuple[Hashes, Lengths]]) -> None:
        self._largest = _MASK
        self._hashes, self._tokens = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        for hashes, lengths in lines:
            self._add(hashes, lengths)
        self._found = np.zeros(len(self._hashes), bool)

    def find(self, hashes: Hashes) -> None:
        """Mark the lines with these hashes as found."""
        hashes = hashes[hashes <= self._largest]
        places = np.searchsorted(self._hashes, hashes)
        within = places < len(self._hashes)
        places, hashes = places[within], hashes[within]
        self._found[places[self._hashes[places] == hashes]] = True

    def found_share(self) -> float:
        """Share of the tokens in lines that are found."""
        return float(self._tokens[self._found].sum() / max(self._tokens.sum(), 1))

    def _add(self, hashes: Hashes, lengths: Lengths) -> None:
        within = hashes <= self._largest
        joined = np.concatenate([self._hashes, hashes[within]])
        tokens = np.concatenate([self._tokens, lengths[within]])
        self._hashes, places = np.unique(joined, return_inverse=True)
        self._tokens = np.bincount(places, tokens, len(self._hashes)).astype(np.int64)
        while len(self._hashes) > _MOST_HASHES:
            self._largest //= 2
            kept = self._hashes <= self._largest
            self._hashes, self._tokens = self._hashes[kept], self._tokens[kept]

"""Log-probabilities of many texts that begin alike: each common beginning is read once, branches share calls."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from operator import add
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Tensors
from ..batches.line_scorer import BATCH_SIZES
from ..score import spelled_ids
from .prefix_tree import Level, PrefixTree

if TYPE_CHECKING:
    from ..predictor import Predictor

WINDOW_TEXTS = 4096
"""Most texts of a tree; states of as many rows are in memory."""

WINDOW_CHARACTERS = 1 << 20

_MEASURED_COUNTS, _MEASURED_TOKENS = (127, 7, 3, 2), 3
"""Numbers of random texts whose calls have every size, and their tokens."""

_MOST_PADDED = 16
"""Up to this number rows are padded to one call, which costs less than several."""


@final
class PrefixScorer:
    """Scores texts with their end of sentence; equal to `Predictor.score(text + "\\n").log_prob` to the bit.

    Where calls of several rows would change numbers, which is measured at the first use, texts are scored alone.
    """

    def __init__(self, predictor: "Predictor") -> None:
        self._predictor = predictor

    def log_probs(self, texts: Sequence[str]) -> list[float]:
        """Natural log-probabilities of texts, each with the end of a sentence after it.

        Raises:
            NumberError: A log-probability is NaN or infinite.
        """
        found: dict[str, float] = {}
        for window in _windows(dict.fromkeys(texts)):
            found.update(zip(window, self._scored(window), strict=True))
        return [found[text] for text in texts]

    def _scored(self, window: Sequence[str]) -> Iterable[float]:
        lines = [f"{text}\n" for text in window]
        if len(window) > 1 and self._is_exact:
            return self._together(lines)
        return [self._predictor.score(line).log_prob for line in lines]

    @cached_property
    def _is_exact(self) -> bool:
        """Whether random texts have the same bits together and alone."""
        draw = np.random.default_rng(0)
        size = len(self._predictor.vocabulary)
        texts = [draw.integers(0, size, (count, _MEASURED_TOKENS)) for count in _MEASURED_COUNTS]
        return self._predictor.batches_are_exact and all(map(self._reads_as_alone, texts))

    def _reads_as_alone(self, texts: NDArray[np.int64]) -> bool:
        network = self._predictor.network
        state = network.initial_state(1)
        tokens = np.insert(texts, 0, network.vocabulary.end_of_sentence_id, axis=1)
        alone = [network.run_log_probs(row[None, :-1], state, row[None, 1:])[0][0] for row in tokens]
        return np.array_equal(self._read(texts.tolist()), np.concatenate(alone))

    def _together(self, lines: Sequence[str]) -> Iterator[float]:
        vocabulary = self._predictor.vocabulary
        spelled = [spelled_ids(line, vocabulary) for line in lines]
        log_probs = self._read([ids for ids, _ in spelled])
        start = 0
        for ids, spelling in spelled:
            yield math.fsum(map(add, log_probs[start : start + len(ids)].tolist(), spelling))
            start += len(ids)

    def _read(self, sequences: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """The log-probabilities of all tokens, concatenated."""
        vocabulary = self._predictor.vocabulary
        tree = PrefixTree(sequences, vocabulary.end_of_sentence_id, len(vocabulary))
        log_probs = np.empty(len(tree.ids), np.float64)
        states: Tensors = self._predictor.initial_state(1).tensors
        for level in tree.levels():
            found, states = self._run(level, states)
            log_probs[level.places] = found[level.children]
        return log_probs

    def _run(self, level: Level, states: Tensors) -> tuple[NDArray[np.float64], Tensors]:
        """The log-probabilities of a level's children, and the states after its rows."""
        network = self._predictor.network
        found, after = [], []
        for rows in _batches(len(level.tokens)):
            tensors = [tensor[level.parents[rows]] for tensor in states]
            logits, state = network.run_rows(level.tokens[rows, None], tensors)
            after.append(state.tensors)
            chosen = slice(*np.searchsorted(level.child_rows, (rows[0], rows[-1] + 1)))
            own, tokens = level.child_rows[chosen] - rows[0], level.child_tokens[chosen]
            columns = np.arange(len(own)) - np.searchsorted(own, own)
            targets = np.zeros((len(rows), int(columns.max()) + 1), np.int64)
            targets[own, columns] = tokens
            found.append(network.target_log_probs(logits[:, -1], targets)[own, columns])
        count = len(level.tokens)
        joined = [np.concatenate(parts)[:count] for parts in zip(*after, strict=True)]
        return np.concatenate(found), joined


def _windows(texts: Iterable[str]) -> Iterator[list[str]]:
    window: list[str] = []
    size = 0
    for text in texts:
        window.append(text)
        size += len(text)
        if len(window) == WINDOW_TEXTS or size >= WINDOW_CHARACTERS:
            yield window
            window, size = [], 0
    if window:
        yield window


def _batches(count: int) -> Iterator[NDArray[np.int64]]:
    """Rows 0 to `count` in calls of the measured sizes; a last call is filled with its last row."""
    start = 0
    while start < count:
        size = _batch_size(count - start)
        yield np.minimum(np.arange(start, start + size), count - 1)
        start += size


def _batch_size(rows: int) -> int:
    sizes = (*BATCH_SIZES, 1)
    if rows > _MOST_PADDED:
        return max(size for size in sizes if size <= rows)
    return min(size for size in sizes if size >= rows)

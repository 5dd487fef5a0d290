"""Scores of many lines: lines of similar length share a call if that changes no number."""

from collections.abc import Iterable, Iterator, Sequence
from operator import add
from typing import TYPE_CHECKING, TypeAlias, final

import numpy as np

from ..arguments import checked_text
from ..errors import NumberError
from ..score import Score, spelled_ids

if TYPE_CHECKING:
    from ..predictor import Predictor

BATCH_SIZES = (64, 32, 16, 8, 4, 2)
"""Numbers of lines that share a call."""

_MOST_TOKENS = 1024
_MOST_LOGITS = 1 << 22
"""Most tokens, and most logits (16 MiB), of a call, padding included; more is slower."""

_MOST_PADDING = 1.125
"""Tokens of a call, padding included, over those of its lines; a smaller batch costs less than more padding."""

_RANKED_TOKENS = 128
"""Most tokens of a call that ranks a line alone."""

_FIRST_WINDOW_LINES, _WINDOW_LINES = 64, 2048
_WINDOW_CHARACTERS = 1 << 17

_Line: TypeAlias = tuple[str, list[int], list[float]]


@final
class LineScorer:
    """Scores lines, each as a separate text; equal to `Predictor.score` to the bit."""

    def __init__(self, predictor: "Predictor", ranks: bool = False) -> None:
        """`ranks`: find the rank of each token too."""
        self._predictor = predictor
        self._ranks = ranks
        self._alone = self._ranked if ranks else predictor.score
        self._most_tokens = min(_MOST_TOKENS, _MOST_LOGITS // len(predictor.vocabulary))

    def scores(self, lines: Iterable[str]) -> Iterator[Score]:
        """The scores of the lines, in order; reads ahead by a window of lines, which fits into memory."""
        if not self._predictor.artifact.batch_invariant:
            yield from map(self._alone, lines)
            return
        for window in _windows(lines):
            yield from self._scores_of(window)

    def _scores_of(self, window: list[str]) -> Iterable[Score]:
        if len(window) == 1 or not self._predictor.batches_are_exact:
            return map(self._alone, window)
        try:
            return self._batched(window)
        except NumberError:  # one by one, the lines before the wrong one have scores
            return map(self._alone, window)

    def _batched(self, window: list[str]) -> list[Score]:
        vocabulary = self._predictor.vocabulary
        lines: list[_Line] = [(text, *spelled_ids(text, vocabulary)) for text in window]
        scores: dict[int, Score] = {}
        for rows in self._batches([len(ids) for _, ids, _ in lines]):
            if len(rows) == 1:
                scores[rows[0]] = self._alone(window[rows[0]])
            else:
                scores.update(zip(rows, self._run([lines[row] for row in rows]), strict=True))
        return [scores[row] for row in range(len(window))]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Group lines into calls of similar lengths; those without tokens are alone."""
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        start = 0
        while start < len(order):
            size = self._batch_size([lengths[row] for row in order[start : start + BATCH_SIZES[0]]])
            yield order[start : start + size]
            start += size

    def _batch_size(self, lengths: Sequence[int]) -> int:
        """Batch size for the next lines, which are sorted by length."""
        if lengths[0]:
            for size in BATCH_SIZES:
                if size <= len(lengths) and size * lengths[size - 1] <= self._limit(lengths[:size]):
                    return size
        return 1

    def _limit(self, lengths: Sequence[int]) -> float:
        """Most tokens of a call with these lines, padding included."""
        return min(self._most_tokens, _MOST_PADDING * sum(lengths))

    def _run(self, lines: Sequence[_Line]) -> Iterator[Score]:
        """The scores of lines that share a call; what comes after the end of a shorter one is not counted."""
        network = self._predictor.network
        tokens = np.full((len(lines), len(lines[-1][1]) + 1), network.vocabulary.end_of_sentence_id, np.int64)
        for row, (_, ids, _) in enumerate(lines):
            tokens[row, 1 : len(ids) + 1] = ids
        state = network.initial_state(len(lines))
        ranks: Sequence[Sequence[int] | None] = [None] * len(lines)
        if self._ranks:
            log_probs, found, _ = network.run_ranks(tokens[:, :-1], state, tokens[:, 1:])
            ranks = [row[: len(ids)] for row, (_, ids, _) in zip(found.tolist(), lines, strict=True)]
        else:
            log_probs, _ = network.run_log_probs(tokens[:, :-1], state, tokens[:, 1:])
        for own, of_line, (text, ids, spelling) in zip(log_probs.tolist(), ranks, lines, strict=True):
            yield Score.of(ids, list(map(add, own, spelling)), network.vocabulary, text, of_line)

    def _ranked(self, text: str) -> Score:
        """The score of one line with ranks."""
        network = self._predictor.network
        ids, spelling = spelled_ids(checked_text("a line", text), network.vocabulary)
        before, state = [network.vocabulary.end_of_sentence_id, *ids], network.initial_state(1)
        own: list[float] = []
        ranks: list[int] = []
        for start in range(0, len(ids), _RANKED_TOKENS):
            targets = np.array([ids[start : start + _RANKED_TOKENS]], np.int64)
            tokens = np.array([before[start : start + targets.shape[1]]], np.int64)
            log_probs, found, state = network.run_ranks(tokens, state, targets)
            own += log_probs[0].tolist()
            ranks += found[0].tolist()
        return Score.of(ids, list(map(add, own, spelling)), network.vocabulary, text, ranks)


def _windows(lines: Iterable[str]) -> Iterator[list[str]]:
    """Group lines into windows that fit into memory; the first ones are small, so that the first scores come soon."""
    window: list[str] = []
    size, most_lines = 0, _FIRST_WINDOW_LINES
    try:
        for line in lines:
            window.append(checked_text("a line", line))
            size += len(line)
            if len(window) == most_lines or size >= _WINDOW_CHARACTERS:
                yield window
                window, size, most_lines = [], 0, min(2 * most_lines, _WINDOW_LINES)
    except Exception:
        if window:
            yield window  # the lines before the error
        raise
    if window:
        yield window

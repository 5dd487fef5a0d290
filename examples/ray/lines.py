"""Scores of many lines: lines of similar length share a call if that changes no number."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from lmtool.runtime import Predictor
from lmtool.runtime.batch_invariance import first_difference
from lmtool.runtime.io.files import RETRY_AFTER_SECONDS, json_text, make_folder, write_atomically
from lmtool.runtime.score import perplexity, spelling_log_probs
from numpy.typing import NDArray
from parts import Part, PartScore, read_lines, result_bytes

BATCH_TOKENS = 256
"""Most tokens of a call, padding included. More is slower on a CPU: the logits no longer fit its cache."""

_SIZES = (16, 8, 4, 2)
_WINDOW_LINES = 1000
_WINDOW_CHARACTERS = 1 << 20


class LineScore(NamedTuple):
    """`Predictor.score` of a line: log-probability with the spelling of unknown tokens, numbers of all and of these."""

    log_prob: float
    tokens: int
    unknown: int

    @property
    def perplexity(self) -> float:
        """exp(-log_prob / tokens); 1 for an empty line."""
        return perplexity(self.log_prob, self.tokens)


@final
class LineScorer:
    """Scores lines, each as a separate text; equal to `Predictor.score` to the bit.

    Attributes:
        batched: Whether lines share calls: the artifact is batch-invariant, and this machine confirms it.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.batched = predictor.artifact.batch_invariant and first_difference(predictor, _SIZES) is None

    def scores(self, lines: Sequence[str]) -> list[LineScore]:
        """The scores of the lines, in order."""
        vocabulary = self._predictor.vocabulary
        split = [vocabulary.tokenization.split(line) for line in lines]
        ids = [[vocabulary.id(token) for token in tokens] for tokens in split]
        spellings = [spelling_log_probs(tokens, vocabulary) for tokens in split]
        log_probs = np.zeros(len(lines))
        for rows in self._batches([len(tokens) for tokens in ids]):
            if len(rows) == 1:
                log_probs[rows[0]] = self._predictor.score(lines[rows[0]]).log_prob
            else:
                log_probs[rows] = self._run([ids[row] for row in rows], [spellings[row] for row in rows])
        return [
            LineScore(float(log_prob), len(tokens), tokens.count(vocabulary.unknown_id))
            for log_prob, tokens in zip(log_probs, ids, strict=True)
        ]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Group the lines that are not empty into calls of similar lengths."""
        order = sorted((row for row, length in enumerate(lengths) if length), key=lengths.__getitem__)
        start = 0
        while start < len(order):
            size = self._size([lengths[row] for row in order[start : start + _SIZES[0]]])
            yield order[start : start + size]
            start += size

    def _size(self, lengths: Sequence[int]) -> int:
        """Batch size for the next lines, which are sorted by length."""
        for size in _SIZES if self.batched else ():
            if size <= len(lengths) and size * lengths[size - 1] <= BATCH_TOKENS:
                return size
        return 1

    def _run(self, ids: Sequence[Sequence[int]], spellings: Sequence[NDArray[np.float64]]) -> list[float]:
        """The log-probabilities of texts with one token or more, spelling included; padding is not counted."""
        end = self._predictor.vocabulary.end_of_sentence_id
        tokens = np.full((len(ids), max(map(len, ids)) + 1), end, np.int64)
        for row, text in enumerate(ids):
            tokens[row, 1 : len(text) + 1] = text
        state = self._predictor.initial_state(len(ids))
        log_probs = self._predictor.log_probs(tokens[:, :-1], state, tokens[:, 1:])[0]
        return [math.fsum((log_probs[row, : len(own)] + own).tolist()) for row, own in enumerate(spellings)]


def score_part(scorer: LineScorer, part: Part, folder: Path, out: Path, model: str) -> PartScore:
    """Score the lines of a part and write them to its file.

    Raises:
        StorageError: The part cannot be read, or the file cannot be written.
    """
    records: list[str] = []
    log_prob, tokens, unknown = 0.0, 0, 0
    for window in _windows(read_lines(part, folder)):
        for (offset, _), line in zip(window, scorer.scores([text for _, text in window]), strict=True):
            records.append(json_text({"offset": offset, **line._asdict(), "perplexity": line.perplexity}))
            log_prob, tokens, unknown = log_prob + line.log_prob, tokens + line.tokens, unknown + line.unknown
    score = PartScore(part, model, len(records), tokens, unknown, log_prob)
    make_folder(part.result(out).parent)
    write_atomically(part.result(out), result_bytes(score, records), RETRY_AFTER_SECONDS)
    return score


def _windows(lines: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Group lines into windows that fit into memory and still have many lines of similar length."""
    rest = iter(lines)
    while first := next(rest, None):
        window = [first]
        size = len(first[1])
        for item in itertools.islice(rest, _WINDOW_LINES - 1):
            window.append(item)
            size += len(item[1])
            if size > _WINDOW_CHARACTERS:
                break
        yield window

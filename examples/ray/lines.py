"""Scores of many lines: several of similar length run in one call, where that changes no number."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from lmtool.runtime import Predictor
from lmtool.runtime.batch_invariance import first_difference
from lmtool.runtime.io.files import RETRY_AFTER_SECONDS, json_text, make_folder, write_atomically
from lmtool.runtime.score import perplexity
from parts import Part, PartScore, read_lines, result_bytes

BATCH_TOKENS = 256
"""What a call reads at most, padding counted. More is slower on a CPU: the logits leave its cache."""

_SIZES = (16, 8, 4, 2)
_WINDOW_LINES = 1000
_WINDOW_CHARACTERS = 1 << 20


class LineScore(NamedTuple):
    """What `Predictor.score` says about a line: its log-probability, its tokens, and how many of them are unknown."""

    log_prob: float
    tokens: int
    unknown: int

    @property
    def perplexity(self) -> float:
        """exp(-log_prob / tokens); 1 for an empty line."""
        return perplexity(self.log_prob, self.tokens)


@final
class LineScorer:
    """Scores lines, each as a text of its own, to the bit as `Predictor.score` does.

    Attributes:
        batched: Whether lines run together: the artifact is batch-invariant, and so it is on this machine.
    """

    def __init__(self, predictor: Predictor) -> None:
        """Score by `predictor`; measures whether rows of a batch are what they are alone."""
        self._predictor = predictor
        self.batched = predictor.artifact.batch_invariant and first_difference(predictor, _SIZES) is None

    def scores(self, lines: Sequence[str]) -> list[LineScore]:
        """The scores of the lines, in their order."""
        vocabulary = self._predictor.vocabulary
        ids = [vocabulary.encode(line) for line in lines]
        found = np.zeros(len(lines))
        for rows in self._batches([len(tokens) for tokens in ids]):
            chosen = [ids[row] for row in rows]
            if len(rows) == 1:
                found[rows[0]] = self._predictor.score(chosen[0]).log_prob
            else:
                found[rows] = self._run(chosen)
        return [
            LineScore(float(log_prob), len(tokens), tokens.count(vocabulary.unknown_id))
            for log_prob, tokens in zip(found, ids, strict=True)
        ]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Which lines run together: each line that is not empty is in one list, similar lengths side by side."""
        order = sorted((row for row, length in enumerate(lengths) if length), key=lengths.__getitem__)
        start = 0
        while start < len(order):
            size = self._size([lengths[row] for row in order[start : start + _SIZES[0]]])
            yield order[start : start + size]
            start += size

    def _size(self, lengths: Sequence[int]) -> int:
        """How many of the next lines, the shorter ones first, make a batch."""
        for size in _SIZES if self.batched else ():
            if size <= len(lengths) and size * lengths[size - 1] <= BATCH_TOKENS:
                return size
        return 1

    def _run(self, ids: Sequence[Sequence[int]]) -> list[float]:
        """The log-probabilities of texts of 1 token or more; what stands behind the shorter ones is not counted."""
        end = self._predictor.vocabulary.end_of_sentence_id
        tokens = np.full((len(ids), max(map(len, ids)) + 1), end, np.int64)
        for row, text in enumerate(ids):
            tokens[row, 1 : len(text) + 1] = text
        state = self._predictor.initial_state(len(ids))
        log_probs = self._predictor.log_probs(tokens[:, :-1], state, tokens[:, 1:])[0]
        return [float(log_probs[row, : len(text)].sum()) for row, text in enumerate(ids)]


def score_part(scorer: LineScorer, part: Part, folder: Path, out: Path, model: str) -> PartScore:
    """Score the lines of a part and write them to its file.

    Raises:
        StorageError: The part cannot be read, or its file not be written.
    """
    records: list[str] = []
    log_prob, tokens, unknown = 0.0, 0, 0
    for window in _windows(read_lines(part, folder)):
        for (offset, _), found in zip(window, scorer.scores([text for _, text in window]), strict=True):
            records.append(json_text({"offset": offset, **found._asdict(), "perplexity": found.perplexity}))
            log_prob, tokens, unknown = log_prob + found.log_prob, tokens + found.tokens, unknown + found.unknown
    score = PartScore(part, model, len(records), tokens, unknown, log_prob)
    make_folder(part.result(out).parent)
    write_atomically(part.result(out), result_bytes(score, records), RETRY_AFTER_SECONDS)
    return score


def _windows(lines: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """The lines in lists that are short enough to be held, and long enough that many lines are of similar length."""
    rest = iter(lines)
    while first := next(rest, None):
        window = [first]
        size = len(first[1])
        for line in itertools.islice(rest, _WINDOW_LINES - 1):
            window.append(line)
            size += len(line[1])
            if size > _WINDOW_CHARACTERS:
                break
        yield window

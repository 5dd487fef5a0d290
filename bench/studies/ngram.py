"""Suggestions of an n-gram with backing-off: all next words at once, from sorted arrays of an ARPA file's n-grams.

KenLM scores one word at a time, so the best five need a score of each word, 2 ms for 4,500 words. Here the logarithms
of all words are a copy of those of single words; for each longer context that the model knows its back-off weight is
added to all, and the words that were seen after it replace theirs. That is the same sum as KenLM's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common.kenlm_model import kenlm_words
from lmtool.runtime import Suggestion, Vocabulary
from lmtool.runtime.autocompletion import continuations
from numpy.typing import NDArray

START = "<s>"
_KEPT_CONTEXTS = 64


@dataclass(frozen=True)
class _Contexts:
    """The n-grams of one length as contexts of the next word.

    Attributes:
        keys: Numbers of the n-grams, int64 [contexts], ascending.
        backoffs: Their logarithms to base 10, float32 [contexts].
        starts: Where the words after each begin, int64 [contexts + 1].
        ids: Those words, int32 [words].
        log_probs: Their logarithms to base 10, float32 [words].
    """

    keys: NDArray[np.int64]
    backoffs: NDArray[np.float32]
    starts: NDArray[np.int64]
    ids: NDArray[np.int32]
    log_probs: NDArray[np.float32]


class Ngram:
    """An n-gram model over a vocabulary."""

    def __init__(self, arpa: Path, vocabulary: Vocabulary) -> None:
        """Read an ARPA file of a model that `build_kenlm` made for this vocabulary."""
        words = [*kenlm_words(vocabulary), START]
        self.start_id = len(vocabulary)
        self._base = len(words)
        self._unigrams = np.full(len(vocabulary), -99, np.float32)
        self._contexts: list[_Contexts] = []
        ids = {word: index for index, word in enumerate(words)}
        previous = None
        for rows in _sections(arpa):
            grams = np.array([[ids.get(word, -1) for word in row[1].split(" ")] for row in rows], np.int64)
            log_probs = np.array([row[0] for row in rows], np.float32)
            backoffs = np.array([row[2] if len(row) > 2 else 0 for row in rows], np.float32)
            known = (grams >= 0).all(1)  # lmplz's own <unk> is no word of the vocabulary
            grams, log_probs, backoffs = grams[known], log_probs[known], backoffs[known]
            if previous is None:
                own = grams[:, 0] < self.start_id
                self._unigrams[grams[own, 0]] = log_probs[own]
            else:
                self._contexts.append(self._with_words(*previous, grams, log_probs))
            previous = grams, backoffs

    def _with_words(
        self,
        contexts: NDArray[np.int64],
        backoffs: NDArray[np.float32],
        grams: NDArray[np.int64],
        log_probs: NDArray[np.float32],
    ) -> _Contexts:
        keys = self._keys(contexts)
        order = np.argsort(keys)
        keys, backoffs = keys[order], backoffs[order]
        places = np.searchsorted(keys, self._keys(grams[:, :-1]))
        order = np.argsort(places, kind="stable")
        starts = np.searchsorted(places[order], np.arange(len(keys) + 1))
        return _Contexts(keys, backoffs, starts, grams[order, -1].astype(np.int32), log_probs[order])

    def _keys(self, grams: NDArray[np.int64]) -> NDArray[np.int64]:
        keys = np.zeros(len(grams), np.int64)
        for column in grams.T:
            keys = keys * self._base + column
        return keys

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self._contexts) + 1

    def log_probs(self, context: Sequence[int]) -> NDArray[np.float32]:
        """Logarithms to base 10 of each next word after these ids, float32 [vocabulary]."""
        scores = self._unigrams.copy()
        for length, contexts in enumerate(self._contexts[: len(context)], 1):
            key = 0
            for index in context[len(context) - length :]:
                key = key * self._base + index
            place = int(np.searchsorted(contexts.keys, key))
            if place == len(contexts.keys) or contexts.keys[place] != key:
                break
            scores += contexts.backoffs[place]
            words = slice(contexts.starts[place], contexts.starts[place + 1])
            scores[contexts.ids[words]] = contexts.log_probs[words]
        return scores


class NgramSuggester:
    """Suggestions of an n-gram for a line that is typed, chosen as `Autocompletion` chooses those of a network."""

    def __init__(self, model: Ngram, vocabulary: Vocabulary, count: int) -> None:
        """Suggest `count` words."""
        self._model, self._vocabulary, self._count = model, vocabulary, count
        self._tokenization = vocabulary.tokenization
        self._hidden = [vocabulary.unknown_id, vocabulary.end_of_sentence_id]
        self._known: dict[tuple[int, ...], NDArray[np.float32]] = {}

    def suggestions(self, line: str) -> list[Suggestion]:
        """The most probable continuations of a line, most probable first."""
        return continuations(line, self._tokenization, self._count, self._next_words, self._rests)

    def end_line(self, line: str) -> None:
        """Do nothing: an n-gram begins each line anew."""

    def _next_words(self, line: str, tokens: list[str]) -> list[Suggestion]:
        previous = tokens[-1] if tokens and not line[-1].isspace() else None
        scores = self._scores(tokens)
        best = _best(scores, self._count + len(self._hidden))
        pairs = [(self._vocabulary.tokens[index], 10.0 ** scores[index]) for index in best if index not in self._hidden]
        return [
            Suggestion(self._tokenization.piece(token, previous), 0, token, float(share))
            for token, share in pairs[: self._count]
        ]

    def _rests(self, tokens: list[str], letters: str) -> list[Suggestion]:
        ids = self._vocabulary.completions(letters)
        if not ids:
            return []
        scores = 10.0 ** self._scores(tokens)[ids]
        scores /= scores.sum()
        typed = len(self._tokenization.folded(letters))
        best = [(self._vocabulary.tokens[ids[place]], scores[place]) for place in _best(scores, self._count + 1)]
        return [Suggestion(letters + word[typed:], -len(letters), word, float(share)) for word, share in best]

    def _scores(self, tokens: list[str]) -> NDArray[np.float32]:
        context = (self._model.start_id, *map(self._vocabulary.id, tokens))[1 - self._model.order :]
        if self._model.order == 1:
            context = ()
        scores = self._known.pop(context, None)
        self._known[context] = scores = self._model.log_probs(context) if scores is None else scores
        if len(self._known) > _KEPT_CONTEXTS:
            del self._known[next(iter(self._known))]
        return scores


def _best(scores: NDArray[np.float32], count: int) -> list[int]:
    """Indices of the highest scores, the highest first, ties by index."""
    if count < len(scores):
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        found = np.flatnonzero(scores >= least)
    else:
        found = np.arange(len(scores))
    return [int(index) for index in found[np.argsort(-scores[found], kind="stable")][:count]]


def _sections(arpa: Path) -> Iterator[list[list[str]]]:
    """The rows of each length of n-grams, split at tabs."""
    rows: list[list[str]] = []
    with arpa.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("-grams:\n"):
                rows = []
            elif "\t" in line:
                rows.append(line.rstrip("\n").split("\t"))
            elif rows:
                yield rows
                rows = []


def largest_difference(model: Ngram, arpa: Path, vocabulary: Vocabulary, lines: Sequence[str]) -> float:
    """Largest difference from KenLM's own logarithm of a word's probability, over all words after each word."""
    import kenlm

    words = kenlm_words(vocabulary)
    reference, largest = kenlm.Model(str(arpa)), 0.0
    for line in lines:
        ids = [model.start_id, *(vocabulary.id(word) for word in vocabulary.tokenization.split(line))]
        state, following = kenlm.State(), kenlm.State()
        reference.BeginSentenceWrite(state)
        for end in range(1, len(ids) + 1):
            own = model.log_probs(ids[max(end - model.order + 1, 0) : end])
            scores = [reference.BaseScore(state, word, following) for word in words]
            largest = max(largest, float(np.abs(own - scores).max()))
            if end < len(ids):
                after = kenlm.State()
                reference.BaseScore(state, words[ids[end]], after)
                state = after
    return largest

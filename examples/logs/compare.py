"""Compare ways to find abnormal sessions: the detector, DeepLog's rule, n-grams, lists of what was seen.

    python compare.py DETECTOR --normal FILE --abnormal FILE

Every way learns the same sessions (`sessions/train.txt` and `valid.txt` of the detector), and every limit is the same
quantile of the sessions that are held out (`test.txt`); neither file of the command line is used for either.
"""

import argparse
import math
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from detector import Detector, ranks, read_sessions, scores_of, surprisals
from lmtool.runtime import LmtoolError
from numpy.typing import NDArray

Worst = Callable[[Sequence[str]], NDArray[np.float64]]
"""Sessions to a number each, the higher the more unusual: float64 [sessions]."""

_BLOCK = 4096


class Way(NamedTuple):
    """A way to find abnormal sessions: its name, its numbers, and a fixed limit where it has one."""

    name: str
    worst: Worst
    limit: float | None = None


class NGram:
    """An n-gram with Witten-Bell smoothing; the end of a session is an event."""

    def __init__(self, sessions: Sequence[str], order: int) -> None:
        self._order = order
        self._counts: list[dict[tuple[str, ...], Counter[str]]] = [defaultdict(Counter) for _ in range(order)]
        for session in sessions:
            events = self._padded(session)
            for place in range(order - 1, len(events)):
                for length, counts in enumerate(self._counts):
                    counts[tuple(events[place - length : place])][events[place]] += 1
        self._keys = len(self._counts[0][()]) + 1

    def surprisals(self, session: str) -> list[float]:
        """-log of the probability of each event and the end."""
        events = self._padded(session)
        return [-math.log(self._probability(events, place)) for place in range(self._order - 1, len(events))]

    def _padded(self, session: str) -> list[str]:
        return [*[""] * (self._order - 1), *session.split(), "\n"]

    def _probability(self, events: Sequence[str], place: int) -> float:
        probability = 1 / self._keys
        for length, counts in enumerate(self._counts):
            after = counts.get(tuple(events[place - length : place]))
            if after:
                kinds = len(after)
                probability = (after[events[place]] + kinds * probability) / (after.total() + kinds)
        return probability


def window_ranks(detector: Detector, window: int) -> Worst:
    """The worst rank of a session's events after the `window` events before them, read without any others."""
    predictor = detector.predictor

    def worst(sessions: Sequence[str]) -> NDArray[np.float64]:
        ids = [predictor.vocabulary.encode(session) for session in sessions]
        places = [(row, end) for row, events in enumerate(ids) for end in range(window, len(events))]
        found = np.zeros(len(sessions))
        for start in range(0, len(places), _BLOCK):
            block = places[start : start + _BLOCK]
            tokens = np.array([ids[row][end - window : end] for row, end in block])
            logits, _ = predictor.step(tokens, predictor.initial_state(len(block)), logits_to_keep=1)
            targets = np.array([ids[row][end] for row, end in block])
            chosen = np.take_along_axis(logits[:, 0], targets[:, None], axis=1)
            rank = 1 + np.count_nonzero(logits[:, 0] > chosen, axis=1)
            np.maximum.at(found, np.array([row for row, _ in block]), rank)
        return found

    return worst


def ways_of(detector: Detector, learnt: Sequence[str]) -> list[Way]:
    """The ways to compare."""

    def network(number: Callable[..., float]) -> Worst:
        return lambda sessions: np.array([number(score) for score in scores_of(detector.predictor, sessions)])

    def ngram(order: int) -> Worst:
        model = NGram(learnt, order)
        return lambda sessions: np.array([max(model.surprisals(session)) for session in sessions])

    keys, lines = {key for session in learnt for key in session.split()}, {" ".join(s.split()) for s in learnt}
    return [
        Way("network, worst surprisal", network(lambda score: surprisals(score).max())),
        Way("network, worst rank", network(lambda score: ranks(score).max())),
        Way("network, worst surprisal without the end", network(lambda score: surprisals(score)[:-1].max())),
        Way("network, mean surprisal", network(lambda score: surprisals(score).mean())),
        Way("network, sum of surprisals", network(lambda score: surprisals(score).sum())),
        Way("network, rank above 9 of the whole session and its end", network(lambda score: ranks(score).max()), 9),
        Way("network, rank above 9 after 10 events (DeepLog's rule)", window_ranks(detector, 10), 9),
        Way("3-gram, worst surprisal", ngram(3)),
        Way("2-gram, worst surprisal", ngram(2)),
        Way("a key never seen", lambda s: np.array([float(not keys.issuperset(x.split())) for x in s]), 0),
        Way("a whole session never seen", lambda s: np.array([float(" ".join(x.split()) not in lines) for x in s]), 0),
    ]


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare ways to find abnormal sessions.")
    parser.add_argument("detector", type=Path, help="what logs.py fit wrote")
    parser.add_argument("--normal", type=Path, required=True, help="normal sessions that the detector has not seen")
    parser.add_argument("--abnormal", type=Path, required=True, help="abnormal sessions")
    parser.add_argument("--quantile", type=float, default=0.99, help="share of held-out sessions within the limits")
    options = parser.parse_args()
    try:
        compare(options.detector, options.normal, options.abnormal, options.quantile)
    except LmtoolError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def compare(folder: Path, normal: Path, abnormal: Path, quantile: float) -> None:
    """Print a row for each way."""
    detector = Detector.load(folder)
    train, valid, held_out = (read_sessions(folder / "sessions" / f"{part}.txt") for part in ("train", "valid", "test"))
    _print("| | limit | false alarms | precision | recall | F1 | seconds |")
    _print("|---|---:|---:|---:|---:|---:|---:|")
    given = [read_sessions(path) for path in (normal, abnormal)]
    for way in ways_of(detector, train + valid):
        started = time.perf_counter()
        worst = [way.worst(sessions) for sessions in given]
        seconds = time.perf_counter() - started
        limit = way.limit
        if limit is None:
            limit = float(np.quantile(way.worst(held_out), quantile, method="higher"))
        _print(f"| {way.name} | {limit:.3g} | {quality(*(numbers > limit for numbers in worst))} | {seconds:.1f} |")
    _print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def quality(normal: NDArray[np.bool_], abnormal: NDArray[np.bool_]) -> str:
    """The share of normal sessions with an alarm, precision, recall and F1, as cells of a table."""
    false, true = int(normal.sum()), int(abnormal.sum())
    precision, recall = true / max(true + false, 1), float(abnormal.mean())
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return f"{normal.mean():.1%} | {precision:.4f} | {recall:.4f} | {f1:.4f}"


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

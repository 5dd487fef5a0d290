"""Measure how often a history of benchmarks raises a false alarm, and what it finds.

    python bench/studies/change_points.py                          # made-up histories, seeded
    python bench/studies/change_points.py --rounds ROUNDS.jsonl    # and from the rounds of calibration.py

A history is searched after each of its runs, as `lmtool bench --history` does. Made-up ones have 8 series without a
change, whose runs differ by 3 % (one standard deviation): independently, or with a correlation between neighbours, as
on a machine whose speed drifts over several runs. The power is the share of histories of one series, whose runs differ
by 1 or 3 %, in which a slow-down is found by the time it has a number of runs. Real histories have a run for every 5
successive rounds of one artifact, and a series for each scenario.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from calibration import read_costs
from common.program import run_program
from lmtool.bench.statistics.change_point import find_changes
from lmtool.runtime.io.text_table import text_table
from numpy.typing import NDArray

SERIES = 8
_RUNS = (10, 20, 30)
_CORRELATIONS = (0.0, 0.3, 0.5, 0.8)
_SPREADS = (0.01, 0.03)
_SLOWER = (0.05, 0.1, 0.2)
_BEFORE = (5, 10, 20)
_AFTER = (3, 5, 10, 20)
_ROUNDS_OF_A_RUN = 5


def make_history(runs: int, spread: float, correlation: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Times of runs without a change, float64 [runs]."""
    noise = random.normal(0, 1, runs)
    for index in range(1, runs):
        noise[index] = correlation * noise[index - 1] + np.sqrt(1 - correlation**2) * noise[index]
    return np.exp(spread * noise)


def first_find(history: Sequence[NDArray[np.float64]], slower: bool = False) -> int | None:
    """Number of runs after which a change, or a slow-down, is found in some series; None: in none."""
    changes = [change for series in history for change in find_changes(series.tolist(), len(history))]
    return min((change.certain for change in changes if change.is_slower or not slower), default=None)


def false_alarms(histories: int, correlation: float, seed: int = 0) -> list[float]:
    """Share of histories in which something was found by the time of each of `_RUNS`."""
    random = np.random.default_rng(seed)
    longest = _RUNS[-1]
    found = [
        first_find([make_history(longest, 0.03, correlation, random) for _ in range(SERIES)]) for _ in range(histories)
    ]
    return [sum(count is not None and count <= runs for count in found) / histories for runs in _RUNS]


def power(histories: int, spread: float, slower: float, before: int, seed: int = 0) -> list[float]:
    """Share of histories in which a slow-down was found by the time it had each of `_AFTER` runs."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(histories):
        history = make_history(before + _AFTER[-1], spread, 0.0, random)
        history[before:] *= 1 + slower
        found.append(first_find([history], slower=True))
    return [sum(count is not None and count - before <= after for count in found) / histories for after in _AFTER]


def real_histories(path: Path, runs: int) -> list[list[NDArray[np.float64]]]:
    """Histories of successive rounds, that share none; a series for each scenario."""
    costs = read_costs(path)
    rounds = runs * _ROUNDS_OF_A_RUN
    count = min(len(turns) for turns in costs.values()) // rounds
    return [
        [
            np.exp(np.log(turns[index * rounds : (index + 1) * rounds, 0]).reshape(runs, -1).mean(axis=1))
            for turns in costs.values()
        ]
        for index in range(count)
    ]


def _print(rows: Sequence[Sequence[str]]) -> None:
    print("\n".join(text_table(rows, "<>")), end="\n\n")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=400)
    parser.add_argument("--rounds", type=Path)
    options = parser.parse_args()
    rows = [("false alarms, correlation", *(f"{runs} runs" for runs in _RUNS))]
    for correlation in _CORRELATIONS:
        rows.append((str(correlation), *(f"{share:.1%}" for share in false_alarms(options.histories, correlation))))
    _print(rows)
    rows = [("power: spread, before, slower", *(f"{after} runs" for after in _AFTER))]
    for spread in _SPREADS:
        for before in _BEFORE:
            for slower in _SLOWER:
                shares = power(options.histories // 4, spread, slower, before)
                rows.append((f"{spread:.0%}, {before} runs, {slower:.0%}", *(f"{share:.0%}" for share in shares)))
    _print(rows)
    if options.rounds is not None:
        for runs in _RUNS:
            histories = real_histories(options.rounds, runs)
            found = sum(first_find(history) is not None for history in histories)
            print(f"real rounds, {runs} runs: a change in {found} of {len(histories)} histories without one")


if __name__ == "__main__":
    run_program(main)

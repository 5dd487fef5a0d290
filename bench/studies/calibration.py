"""Measure how often the rule of comparisons errs, and what it finds: the same artifact twice, in turns.

    python bench/studies/calibration.py --model FILE --rounds N --out ROUNDS.jsonl

Each round times the artifact under two names, a process each, in random order, as `lmtool bench` does. The file
grows by a line for each turn, so a study can be stopped, continued with more --rounds, and read again with --rounds 0.

From these rounds follow comparisons of equal runtimes, each with a ratio for one scenario or for all: how many find a
slow-down (a false alarm), and how many find a planted one, by which the times of one of both are multiplied. Three
rules are shown: that in turns, intervals of 95 % at each look (the positive control), and that for two runs, of which
the second begins after the first. Comparisons of fewer than 20 rounds share none; longer ones are `--windows` that
overlap.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from common.program import run_program
from lmtool.bench.backends.registry import ONNXRUNTIME
from lmtool.bench.backends.source import Source
from lmtool.bench.candidates import Candidate
from lmtool.bench.rounds import turn_order
from lmtool.bench.scenario import Scenario
from lmtool.bench.statistics.decision import decision_confidence, look_rounds
from lmtool.bench.statistics.estimate import CONFIDENCE
from lmtool.bench.statistics.ratio import paired_ratio, unpaired_ratio
from lmtool.bench.workers.launch import run_timing_job
from lmtool.runtime.io.text_table import text_table
from numpy.typing import NDArray

NAMES = ("a", "b")
_SCENARIOS = ("single-stream", "multi-stream:8", "multi-stream:64", "offline:1x128")
_SECONDS = 0.1
_SLOWER = (0.0, 0.05, 0.1, 0.2)
_ROUNDS = (5, 10, 20, 40)
_ALONE = "in turns, each scenario alone"
_LONGEST = 20
"""Most rounds of comparisons that share none."""

Costs = Mapping[str, NDArray[np.float64]]
"""Scenario -> first quartiles of the calls in seconds, float64 [rounds, 2]."""


def measure(model: Path, rounds: int, out: Path) -> None:
    """Append the turns up to round `rounds` to a file."""
    candidate = Candidate(ONNXRUNTIME, Source(model))
    scenarios = [Scenario.parse(text) for text in _SCENARIOS]
    done = len(out.read_text().splitlines()) // len(NAMES) if out.exists() else 0
    with out.open("a") as file:
        for number in range(done, rounds):
            for name in turn_order(NAMES, number):
                timed = run_timing_job(candidate, scenarios, _SECONDS).rounds
                costs = {str(scenario): each.undisturbed for scenario, each in timed.items()}
                file.write(json.dumps({"round": number, "name": name, "costs": costs}) + "\n")
                file.flush()


def read_costs(path: Path) -> Costs:
    """The whole rounds of a file."""
    rounds: dict[int, dict[str, Mapping[str, float]]] = {}
    for line in path.read_text().splitlines():
        turn = json.loads(line)
        rounds.setdefault(turn["round"], {})[turn["name"]] = turn["costs"]
    whole = [turns for _, turns in sorted(rounds.items()) if len(turns) == len(NAMES)]
    scenarios = whole[0][NAMES[0]] if whole else ()
    return {name: np.array([[turns[each][name] for each in NAMES] for turns in whole]) for name in scenarios}


Rule = Callable[[Costs, float, float], bool]
"""Whether a comparison finds a slow-down of more than a share, if the second runtime is slower by another share."""


def in_turns(costs: Costs, slower: float, allowed: float) -> bool:
    """The rule of `lmtool bench --before`, which looks after 5, 10, 20, ... rounds."""
    rounds = len(next(iter(costs.values())))
    looks = look_rounds(min(rounds, _ROUNDS[0]), rounds)
    return _any_longer(costs, slower, allowed, looks, decision_confidence(len(costs), len(looks)))


def without_a_rule(costs: Costs, slower: float, allowed: float) -> bool:
    """Intervals of 95 % at each look."""
    rounds = len(next(iter(costs.values())))
    return _any_longer(costs, slower, allowed, look_rounds(min(rounds, _ROUNDS[0]), rounds), CONFIDENCE)


def apart(costs: Costs, slower: float, allowed: float) -> bool:
    """The rule of `--compare OLD.json`: the first half of the rounds is the first run."""
    confidence = decision_confidence(len(costs), 1)
    halves = [np.array_split(turns[:, 0], 2) for turns in costs.values()]
    ratios = (unpaired_ratio(((1 + slower) * now).tolist(), old.tolist(), confidence) for old, now in halves)
    return any(ratio.low > 1 + allowed for ratio in ratios)


def _any_longer(costs: Costs, slower: float, allowed: float, looks: Sequence[int], confidence: float) -> bool:
    return any(
        paired_ratio(((1 + slower) * turns[:look, 1]).tolist(), turns[:look, 0].tolist(), confidence).low > 1 + allowed
        for look in looks
        for turns in costs.values()
    )


def windows(costs: Costs, rounds: int, most: int) -> list[Costs]:
    """Successive parts of the rounds; from 20 rounds on up to `most` parts that overlap."""
    last = len(next(iter(costs.values()))) - rounds
    if last < 0:
        return []
    starts = np.arange(0, last + 1, rounds) if rounds < _LONGEST else np.unique(np.linspace(0, last, most, dtype=int))
    return [{name: turns[start : start + rounds] for name, turns in costs.items()} for start in starts]


def main() -> None:
    """Measure, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    measure(options.model, options.rounds, options.out)
    costs = read_costs(options.out)
    rules: list[tuple[str, Rule, float, int]] = [
        (_ALONE, in_turns, 0.0, 1),
        ("in turns", in_turns, 0.0, 1),
        ("in turns, 10 % allowed", in_turns, 0.1, 1),
        ("95 % without a rule", without_a_rule, 0.0, 1),
        ("two runs", apart, 0.0, 2),
        ("two runs, 10 % allowed", apart, 0.1, 2),
    ]
    rows = [("rule", "rounds", "comparisons", *(f"{slower:.0%} slower" for slower in _SLOWER))]
    for title, rule, allowed, runs in rules:
        for rounds in _ROUNDS:
            parts = windows(costs, runs * rounds, options.windows)
            if title == _ALONE:
                parts = [{name: turns} for part in parts for name, turns in part.items()]
            found = [np.mean([rule(part, slower, allowed) for part in parts]) for slower in _SLOWER] if parts else []
            rows += [(title, str(rounds), str(len(parts)), *(f"{share:.1%}" for share in found))] if parts else []
    print("\n".join(text_table(rows, "<>")))


if __name__ == "__main__":
    run_program(main)

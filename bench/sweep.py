"""Cost along one axis: batch, chunk, threads, hidden size or vocabulary; and the crossovers between runtimes."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

from .timing import Timing

AXES = {
    "batch": "streams of a call, one token each",
    "chunk": "tokens of a chunk of scored text",
    "threads": "threads of a call of 64 streams",
    "hidden": "units of each layer, one stream",
    "vocabulary": "tokens of the vocabulary, one stream",
}
"""Axis -> what varies. Networks with other hidden sizes and vocabularies have random weights."""


@final
@dataclass(frozen=True)
class Crossover:
    """From `value` on `winner` is faster, below it `loser`."""

    loser: str
    winner: str
    value: int


@final
@dataclass(frozen=True)
class Sweep:
    """Timings along one axis.

    Attributes:
        axis: One of `AXES`.
        timings: Runtime name -> value on the axis, in ascending order -> timing.
    """

    axis: str
    timings: Mapping[str, Mapping[int, Timing]]

    @property
    def values(self) -> list[int]:
        """All measured values, in ascending order."""
        return sorted({value for timings in self.timings.values() for value in timings})

    def seconds_per_token(self, runtime: str) -> dict[int, float]:
        """Median seconds of a call divided by its tokens, by value."""
        timings = self.timings[runtime].items()
        return {value: timing.median_seconds / timing.scenario.tokens for value, timing in timings}

    @property
    def crossovers(self) -> list[Crossover]:
        """The crossover of each pair of runtimes of which one is faster at the low end, the other at the high end."""
        pairs = (self._crossover(*pair) for pair in itertools.permutations(self.timings, 2))
        return [crossover for crossover in pairs if crossover is not None]

    def _crossover(self, loser: str, winner: str) -> Crossover | None:
        before, after = self.seconds_per_token(loser), self.seconds_per_token(winner)
        values = sorted(before.keys() & after.keys())
        if not values or before[values[0]] > after[values[0]]:
            return None  # the winner is faster everywhere
        won = list(itertools.takewhile(lambda value: after[value] < before[value], reversed(values)))
        return Crossover(loser, winner, won[-1]) if won else None

    def to_json(self) -> dict[str, Any]:
        """The sweep, ready for JSON."""
        return {
            "axis": self.axis,
            "meaning": AXES[self.axis],
            "crossovers": [asdict(crossover) for crossover in self.crossovers],
            "timings": {
                runtime: {str(value): timing.to_json() for value, timing in timings.items()}
                for runtime, timings in self.timings.items()
            },
        }

"""Files that somebody made to do harm, each from a seed: what is replaced, who must refuse it."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PICKLE = b"cposix\nsystem\n(S'touch %s'\ntR."
"""What unpickling would run: it leaves a canary."""


@dataclass(frozen=True)
class Hostile:
    """One hostile file.

    Attributes:
        name: What is wrong with it.
        files: Path in the run folder -> its bytes.
        refusing: The doors that have to refuse it.
        others: Doors that it goes through too, which may refuse it or take no notice.
    """

    name: str
    files: dict[str, bytes]
    refusing: tuple[str, ...]
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """What hostile files are made of: a good run folder with an artifact, and where the bait is."""

    run: Path
    secret: Path
    canary: Path

    @property
    def model(self) -> bytes:
        return (self.run / "model.onnx").read_bytes()

    def pickle(self) -> bytes:
        return PICKLE % bytes(self.canary)


Recipe = Callable[[Source, random.Random], Hostile]

HUGE = (2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1)
ODD_VALUES = (None, True, -1, 0, 1.5, 2**70, 10**4000, "", "x", "\ud800", [], [[]], [None], {}, {"a": []}, ["lstm"])
"""What JSON may hold where something else is expected."""


def deep_json(draw: random.Random) -> bytes:
    """Brackets in brackets."""
    depth = draw.choice((100, 1000, 100_000))
    opening, closing = draw.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return opening * depth + draw.choice((b"1", b"")) + closing * draw.choice((depth, 0))

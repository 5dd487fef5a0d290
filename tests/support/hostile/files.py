"""Hostile files, each made from a seed: their content and the entry points that must refuse them."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PICKLE = b"cposix\nsystem\n(S'touch %s'\ntR."
"""Code that unpickling would run: it creates the canary file."""


@dataclass(frozen=True)
class HostileFile:
    """One hostile file.

    Attributes:
        name: Its defect.
        files: Path in the run folder -> its bytes.
        must_refuse: The entry points that must refuse it.
        may_refuse: Entry points that are tried too and may accept it.
    """

    name: str
    files: dict[str, bytes]
    must_refuse: tuple[str, ...]
    may_refuse: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """The good run folder that hostile files are made from, and the paths of the honeypot."""

    run: Path
    secret: Path
    canary: Path

    @property
    def model(self) -> bytes:
        return (self.run / "model.onnx").read_bytes()

    def pickle(self) -> bytes:
        return PICKLE % bytes(self.canary)


Recipe = Callable[[Source, random.Random], HostileFile]

HUGE = (2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1)
ODD_VALUES = (None, True, -1, 0, 1.5, 2**70, 10**4000, "", "x", "\ud800", [], [[]], [None], {}, {"a": []}, ["lstm"])
"""JSON values of an unexpected kind."""


def deep_json(draw: random.Random) -> bytes:
    """Brackets in brackets."""
    depth = draw.choice((100, 1000, 100_000))
    opening, closing = draw.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return opening * depth + draw.choice((b"1", b"")) + closing * draw.choice((depth, 0))

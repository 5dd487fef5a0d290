"""How the tokens of one text are chosen."""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError

if TYPE_CHECKING:
    from ..sampling import Sampling

GREEDY, ALL, TEMPERED, NUCLEUS, BEST, MANY_BEST = range(6)
"""Ways to choose a token; `ALL` draws at the temperature 1."""
_FEW = 256
"""Texts with a larger `top_k` are drawn apart from the others."""
_LEAST = 2.0**-54
"""Instead of a random number 0, so that it never meets a probability that is 0 but for rounding."""
_STATES = 2**64
_MULTIPLIER, _INCREMENT = 6364136223846793005, 1442695040888963407
"""Of a linear congruential generator (Knuth's MMIX)."""
_SMALLEST, _LARGEST = 1e-37, 1e37
"""Bounds of factors in float32: 0 and infinity would make NaN of some logits."""


@final
@dataclass(eq=False, slots=True)
class Draw:
    """How the tokens of one text are chosen; its owner updates it after each token.

    Attributes:
        sampling: The options.
        random: Source of the draws: one number a token, none for a greedy one.
        barred: int64, ids of tokens that are never chosen.
        bias: Ids, int64, and what is added to their logits, float32.
        inside: bool [vocabulary], for tokens that are parts of words and another choice inside a word: which of them
            go on with a word; None else.
        ahead: How many numbers are taken from `random` at a time; 1 where it is not this text's own.
        at_boundary: Whether the text so far ends at a word boundary.
        closed: int64, ids of tokens that are not the next one, beside `barred`; None if there are none.
        recent: The latest token ids, for the repetition penalty.
        ruled_out: The ids of `barred`.
        changes_logits: Whether there is a bias or a penalty.
        kinds: How a token is chosen inside a word and at a boundary.
        factor: Multiplies the logits: 1 over the temperature, within the bounds of float32.
        count: Draw among so many most probable tokens only; 0 for all.
        share: Of the probabilities of those, which the fewest most probable tokens that are drawn from reach.
        drawn: The latest random number.
        again: A number to use once more, for a token that could not be chosen.
    """

    sampling: "Sampling"
    random: np.random.Generator
    barred: NDArray[np.int64]
    bias: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None
    inside: NDArray[np.bool_] | None = None
    ahead: int = 64
    at_boundary: bool = True
    closed: NDArray[np.int64] | None = None
    recent: deque[int] = field(init=False)
    ruled_out: frozenset[int] = field(init=False)
    changes_logits: bool = field(init=False)
    kinds: tuple[int, int] = field(init=False)
    factor: float = field(init=False)
    count: int = field(init=False)
    share: float = field(init=False)
    _numbers: list[float] = field(init=False, default_factory=list)
    _barred: int | NDArray[np.int64] = field(init=False)
    drawn: float | None = field(init=False, default=None)
    again: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        sampling = self.sampling
        self.recent = deque(maxlen=sampling.repetition_window)
        self.ruled_out = frozenset(self.barred.tolist())
        self._barred = int(self.barred[0]) if len(self.barred) == 1 else self.barred  # a tenth of the time
        self.changes_logits = self.bias is not None or sampling.repetition_penalty != 1
        kind = _kind(sampling)
        self.kinds = (kind if sampling.method == "weighted" else GREEDY, kind)
        self.factor = min(max(1 / max(sampling.temperature, _SMALLEST), _SMALLEST), _LARGEST)
        self.count, self.share = sampling.top_k or 0, sampling.top_p or 1.0

    @property
    def depends_on_boundary(self) -> bool:
        """Whether tokens are chosen in another way inside a word."""
        return self.kinds[0] != self.kinds[1]

    def find_boundary(self, logits: NDArray[np.float32]) -> None:
        """Inside a word, for parts of words: if the most probable token begins another word, one of those is drawn."""
        if self.inside is None or self.at_boundary:
            return
        row = logits.copy()
        self.change(row)
        if not self.inside[row.argmax()]:
            self.at_boundary = True
            closed = np.flatnonzero(self.inside)
            self.closed = closed if self.closed is None else np.concatenate([self.closed, closed])

    def number(self) -> float:
        """The random number of the next token, in (0, 1)."""
        if self.again is not None:
            self.drawn, self.again = self.again, None
            return self.drawn
        if not self._numbers:
            self._numbers = self.random.random(self.ahead)[::-1].tolist()
        self.drawn = self._numbers.pop() or _LEAST
        return self.drawn

    def change(self, row: NDArray[np.float32]) -> None:
        """Change logits, float32 [vocabulary], in place: barred tokens go, and the bias and the penalty apply.

        Raises:
            OptionError: No token is left; only if some are closed.
        """
        row[self._barred] = -np.inf
        if self.changes_logits:
            self._change(row)
        if self.closed is not None:
            row[self.closed] = -np.inf
            if row.max() == -np.inf:
                raise OptionError("no token is left that may be written next; rule out fewer words or tokens")

    @np.errstate(over="ignore")  # a very high penalty leaves no recent token
    def _change(self, row: NDArray[np.float32]) -> None:
        """Add the bias, then apply the repetition penalty; minus infinity stays."""
        if self.bias is not None:
            ids, values = self.bias
            row[ids] += values
        penalty = min(self.sampling.repetition_penalty, _LARGEST)
        if self.recent and penalty != 1:
            ids = np.array(list(set(self.recent)))
            values = row[ids]
            row[ids] = np.where(values > 0, values / penalty, values * penalty)


def following_number(number: float) -> float:
    """Another random number in (0, 1), which the first determines."""
    state = (int(number * _STATES) * _MULTIPLIER + _INCREMENT) % _STATES
    return (state >> 11) * 2.0**-53 or _LEAST


def _kind(sampling: "Sampling") -> int:
    if sampling.temperature == 0 or sampling.method == "greedy":
        return GREEDY
    if sampling.top_k is not None:
        return BEST if sampling.top_k <= _FEW else MANY_BEST
    if sampling.top_p is not None and sampling.top_p != 1:
        return NUCLEUS
    return ALL if sampling.temperature == 1 else TEMPERED

"""The choice of the next token of many texts at once, without sorting the vocabulary."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from .session.softmax import softmax

if TYPE_CHECKING:
    from .sampling import Sampling

_BLOCK = 64
"""Tokens whose probabilities are summed first: a draw then reads the sums and one block."""
_NUCLEUS = 256
"""Number of most probable tokens that are sorted first for top-p."""
_LEAST, _MOST = 2.0**-54, 1 - 2.0**-53
"""Bounds of a random number, so that it never meets a probability that is 0 but for rounding, nor lies beyond all."""

_Chooser = Callable[[NDArray[np.float32], "Sequence[Draw]"], NDArray[np.int64]]


@final
@dataclass(eq=False, slots=True)
class Draw:
    """How the tokens of one text are chosen; its owner updates it after each token.

    Attributes:
        sampling: The options.
        random: Source of the draws: one number a token, none for a greedy one.
        barred: int64, ids of tokens that are never chosen.
        bias: Ids, int64, and what is added to their logits, float32.
        at_boundary: Whether the text so far ends at a word boundary.
        recent: The latest token ids, for the repetition penalty.
    """

    sampling: "Sampling"
    random: np.random.Generator
    barred: NDArray[np.int64]
    bias: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None
    at_boundary: bool = True
    recent: deque[int] = field(init=False)

    def __post_init__(self) -> None:
        self.recent = deque(maxlen=self.sampling.repetition_window)

    @property
    def is_greedy(self) -> bool:
        """Whether the next token is the most probable one."""
        sampling = self.sampling
        return (
            sampling.temperature == 0
            or sampling.method == "greedy"
            or (sampling.method != "weighted" and not self.at_boundary)
        )

    def number(self) -> float:
        """The next random number, in (0, 1)."""
        return self.random.random() or _LEAST


@final
class TokenSampler:
    """Chooses tokens by `Sampling`; a row's choice does not depend on the other rows of the call. Thread-safe.

    Example:
        >>> import numpy as np
        >>> from lmtool.runtime import Sampling
        >>> from lmtool.runtime.token_sampler import Draw, TokenSampler
        >>> draw = Draw(Sampling("greedy"), np.random.default_rng(1), barred=np.array([2]))
        >>> TokenSampler(3).choose(np.array([[0.5, 1, 2]], np.float32), [draw]).tolist()
        [1]
    """

    def __init__(self, vocabulary_size: int) -> None:
        self._size = vocabulary_size
        self._width = -(-vocabulary_size // _BLOCK) * _BLOCK

    def choose(self, logits: NDArray[np.float32], draws: Sequence[Draw]) -> NDArray[np.int64]:
        """Choose a token for each text; arguments are not checked.

        Args:
            logits: float32 [texts, vocabulary], not changed; minus infinity rules a token out.
            draws: One for each text.

        Returns:
            Token ids, int64 [texts].
        """
        rows = self._edited(logits, draws)
        choosers = [self._chooser(draw) for draw in draws]
        if len(set(choosers)) == 1:
            return choosers[0](rows, draws)
        chosen = np.empty(len(draws), np.int64)
        for chooser in dict.fromkeys(choosers):
            members = [row for row, each in enumerate(choosers) if each == chooser]
            chosen[members] = chooser(rows[members], [draws[row] for row in members])
        return chosen

    def _chooser(self, draw: Draw) -> _Chooser:
        sampling = draw.sampling
        if draw.is_greedy:
            return _most_probable
        if sampling.top_k is not None and sampling.top_k < self._size:
            return _among_best
        if sampling.top_p is not None and sampling.top_p < 1:
            return _in_nucleus
        return _among_all

    def _edited(self, logits: NDArray[np.float32], draws: Sequence[Draw]) -> NDArray[np.float32]:
        """A copy with bias, barred tokens and penalties, filled up with minus infinity to whole blocks."""
        rows = np.empty((len(draws), self._width), np.float32)
        rows[:, : self._size] = logits
        rows[:, self._size :] = -np.inf
        for row, draw in zip(rows, draws, strict=True):
            if draw.bias is not None:
                ids, values = draw.bias
                row[ids] += values
            row[draw.barred] = -np.inf
            if draw.recent and draw.sampling.repetition_penalty != 1:
                _penalise(row, draw)
        return rows


@np.errstate(over="ignore")  # a very high penalty leaves no recent token
def _penalise(row: NDArray[np.float32], draw: Draw) -> None:
    ids, penalty = np.array(list(set(draw.recent))), draw.sampling.repetition_penalty
    values = row[ids]
    row[ids] = np.where(values > 0, values / penalty, values * penalty)


def _most_probable(rows: NDArray[np.float32], draws: "Sequence[Draw]") -> NDArray[np.int64]:
    return np.asarray(rows.argmax(axis=1))


def _among_all(rows: NDArray[np.float32], draws: "Sequence[Draw]") -> NDArray[np.int64]:
    """Draw among all tokens, in the order of their ids: first a block, then a token of it."""
    blocks = softmax(_tempered(rows, draws)).reshape(len(rows), -1, _BLOCK)
    sums = _cumulative(_block_sums(blocks))
    drawn = _numbers(draws) * sums[:, -1:]
    place = _first_above(sums, drawn)
    every = np.arange(len(rows))
    inside = _cumulative(blocks[every, place])
    before = np.where(place > 0, sums[every, place - 1], 0.0)[:, None]
    share = (drawn - before) / (sums[every, place][:, None] - before)
    within = _first_above(inside, np.minimum(np.maximum(share, _LEAST), _MOST) * inside[:, -1:])
    return place * _BLOCK + within


def _among_best(rows: NDArray[np.float32], draws: "Sequence[Draw]") -> NDArray[np.int64]:
    """Draw among each text's `top_k` most probable tokens, or their nucleus, in falling order."""
    counts = np.array([[draw.sampling.top_k] for draw in draws])
    best = _largest(rows, int(counts.max()))
    weights = _weights(best, draws)
    weights[np.arange(weights.shape[1]) >= counts] = 0
    sums = _cumulative(weights)
    shares = np.array([[1.0 if draw.sampling.top_p is None else draw.sampling.top_p] for draw in draws])
    return _drawn(rows, best, sums, shares * sums[:, -1:], draws)


def _in_nucleus(rows: NDArray[np.float32], draws: "Sequence[Draw]") -> NDArray[np.int64]:
    """Draw among the fewest most probable tokens whose probabilities reach `top_p`, in falling order."""
    probabilities = softmax(_tempered(rows, draws))
    sums = _block_sums(probabilities.reshape(len(rows), -1, _BLOCK)).sum(axis=1, dtype=np.float64, keepdims=True)
    totals = sums / probabilities.max(axis=1, keepdims=True)  # of weights, of which the largest is 1
    wanted = totals * np.array([[draw.sampling.top_p] for draw in draws])
    return _in_prefix(rows, wanted, draws, _NUCLEUS)


def _in_prefix(
    rows: NDArray[np.float32], wanted: NDArray[np.float64], draws: "Sequence[Draw]", count: int
) -> NDArray[np.int64]:
    """Draw among the fewest most probable tokens whose weights reach `wanted`, of which there may be `count`."""
    best = _largest(rows, count)
    sums = _cumulative(_weights(best, draws))
    is_whole = (sums[:, -1] >= wanted[:, 0]) | (best.shape[1] == rows.shape[1])
    if is_whole.all():
        return _drawn(rows, best, sums, wanted, draws)
    chosen = np.empty(len(rows), np.int64)
    for members in (np.flatnonzero(is_whole), np.flatnonzero(~is_whole)):
        if len(members):
            larger = count if is_whole[members[0]] else 4 * count
            theirs = [draws[row] for row in members.tolist()]
            chosen[members] = _in_prefix(rows[members], wanted[members], theirs, larger)
    return chosen


def _drawn(
    rows: NDArray[np.float32],
    best: NDArray[np.float32],
    sums: NDArray[np.float64],
    wanted: NDArray[np.float64],
    draws: "Sequence[Draw]",
) -> NDArray[np.int64]:
    """Draw among the fewest most probable tokens whose weights reach `wanted`.

    Args:
        rows: float32 [texts, width], the logits.
        best: float32 [texts, count], the largest of them, falling.
        sums: float64 [texts, count], cumulative weights of `best`.
        wanted: float64 [texts, 1].
        draws: One for each text.
    """
    every = np.arange(len(rows))
    reached = sums >= wanted
    reached[:, -1] = True
    mass = sums[every, reached.argmax(axis=1)][:, None]
    place = _first_above(sums, _numbers(draws) * mass)
    values = best[every, place][:, None]
    found = (rows == values).argmax(axis=1)
    ranks = place - (best == values).argmax(axis=1)  # among equal logits
    for row in np.flatnonzero(ranks).tolist():
        found[row] = np.flatnonzero(rows[row] == values[row])[ranks[row]]
    return np.asarray(found)


def _largest(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The `count` largest numbers of each row, falling; all if it has no more."""
    start = max(rows.shape[1] - count, 0)
    best = np.partition(rows, start, axis=1)[:, start:]
    best.sort(axis=1)
    return best[:, ::-1]


@np.errstate(over="ignore")  # a very low temperature leaves one token
def _weights(best: NDArray[np.float32], draws: "Sequence[Draw]") -> NDArray[np.float64]:
    """Weights of the largest logits, float64 [texts, count]; the first is 1."""
    temperatures = np.array([[draw.sampling.temperature] for draw in draws])
    return np.asarray(np.exp((best - best[:, :1].astype(np.float64)) / temperatures))


def _tempered(rows: NDArray[np.float32], draws: "Sequence[Draw]") -> NDArray[np.float32]:
    """`rows` divided by the temperatures, less a number that is the same for a row; those at 1 are not copied."""
    changed = [row for row, draw in enumerate(draws) if draw.sampling.temperature != 1]
    if not changed:
        return rows
    if len(changed) == len(rows):
        return _temper(rows, draws)
    tempered = rows.copy()
    tempered[changed] = _temper(rows[changed], [draws[row] for row in changed])
    return tempered


@np.errstate(over="ignore")  # as in `_weights`
def _temper(rows: NDArray[np.float32], draws: "Sequence[Draw]") -> NDArray[np.float32]:
    factors = [[min(1 / max(draw.sampling.temperature, 1e-38), 1e38)] for draw in draws]
    tempered = rows - rows.max(axis=1, keepdims=True)
    tempered *= np.array(factors, np.float32)
    return np.asarray(tempered)


def _numbers(draws: "Sequence[Draw]") -> NDArray[np.float64]:
    return np.array([[draw.number()] for draw in draws])


def _block_sums(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.einsum("rbi->rb", blocks))


def _cumulative(numbers: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    return numbers.cumsum(axis=1, dtype=np.float64)


def _first_above(sums: NDArray[np.float64], numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of each row's first number above that of `numbers`, [rows, 1], which lies below the last."""
    return np.asarray((sums > numbers).argmax(axis=1))

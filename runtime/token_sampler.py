"""The choice of the next token of many texts at once, without sorting the vocabulary.

One text is drawn with Python's numbers where many are with arrays: arrays of one number cost three times as much. Both
compute the same float64.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from .session.probabilities import softmax

if TYPE_CHECKING:
    from .sampling import Sampling

_BLOCK = 64
"""Tokens whose probabilities are summed first: a draw then reads the sums and one block."""
_FEW, _GROWTH = 256, 8
"""Number of most probable tokens that are sorted first for top-p, and what it grows by where the nucleus is larger.

Texts with a larger `top_k` are drawn apart from the others.
"""
_LEAST, _MOST = 2.0**-54, 1 - 2.0**-53
"""Bounds of a random number, so that it never meets a probability that is 0 but for rounding, nor lies beyond all."""
_SMALLEST, _LARGEST = 1e-37, 1e37
"""Bounds of factors in float32: 0 and infinity would make NaN of some logits."""
_GREEDY, _ALL, _NUCLEUS, _BEST, _MANY_BEST = range(5)


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
        ruled_out: The ids of `barred`.
        changes_logits: Whether there is a bias or a penalty.
        kinds: How a token is chosen inside a word and at a boundary.
        drawn: The latest random number.
        again: A number to use once more, for a token that could not be chosen.
    """

    sampling: "Sampling"
    random: np.random.Generator
    barred: NDArray[np.int64]
    bias: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None
    at_boundary: bool = True
    recent: deque[int] = field(init=False)
    ruled_out: frozenset[int] = field(init=False)
    changes_logits: bool = field(init=False)
    kinds: tuple[int, int] = field(init=False)
    drawn: float | None = field(init=False, default=None)
    again: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.recent = deque(maxlen=self.sampling.repetition_window)
        self.ruled_out = frozenset(self.barred.tolist())
        self.changes_logits = self.bias is not None or self.sampling.repetition_penalty != 1
        kind = _kind(self.sampling)
        self.kinds = (kind if self.sampling.method == "weighted" else _GREEDY, kind)

    def number(self) -> float:
        """The random number of the next token, in (0, 1)."""
        self.drawn = self.random.random() or _LEAST if self.again is None else self.again
        self.again = None
        return self.drawn


def _kind(sampling: "Sampling") -> int:
    if sampling.temperature == 0 or sampling.method == "greedy":
        return _GREEDY
    if sampling.top_k is not None:
        return _BEST if sampling.top_k <= _FEW else _MANY_BEST
    return _ALL if sampling.top_p is None or sampling.top_p == 1 else _NUCLEUS


@final
class TokenSampler:
    """Chooses tokens by `Sampling`; a text's choice does not depend on the others of the call. Thread-safe.

    Example:
        >>> import numpy as np
        >>> from lmtool.runtime import Sampling
        >>> from lmtool.runtime.token_sampler import Draw, TokenSampler
        >>> draw = Draw(Sampling("greedy"), np.random.default_rng(1), barred=np.array([2]))
        >>> TokenSampler(3).choose(np.array([[0.5, 1, 2]], np.float32), [draw]).tolist()
        [1]
    """

    def __init__(self, vocabulary_size: int) -> None:
        self._padding = np.full((1, -vocabulary_size % _BLOCK), -np.inf, np.float32)

    def choose(self, logits: NDArray[np.float32], draws: Sequence[Draw]) -> NDArray[np.int64]:
        """Choose a token for each text; arguments are not checked.

        Args:
            logits: float32 [texts, vocabulary], not changed; minus infinity rules a token out.
            draws: One for each text.

        Returns:
            Token ids, int64 [texts].
        """
        if len(draws) == 1:
            return np.array([self.choose_one(logits[0], draws[0])])
        kinds = [draw.kinds[draw.at_boundary] for draw in draws]
        if kinds.count(kinds[0]) == len(kinds):
            return self._choose_alike(kinds[0], logits, draws)
        chosen = np.empty(len(draws), np.int64)
        for kind in set(kinds):
            members = [row for row, each in enumerate(kinds) if each == kind]
            chosen[members] = self._choose_alike(kind, logits[members], [draws[row] for row in members])
        return chosen

    def choose_one(self, logits: NDArray[np.float32], draw: Draw) -> int:
        """As `choose`, for one text: logits float32 [vocabulary] to a token id."""
        kind = draw.kinds[draw.at_boundary]
        if kind == _GREEDY and not draw.changes_logits:
            token = int(logits.argmax())
            if token not in draw.ruled_out:
                return token
        return int(self._choose_alike(kind, logits[None], (draw,))[0])

    def _choose_alike(self, kind: int, logits: NDArray[np.float32], draws: Sequence[Draw]) -> NDArray[np.int64]:
        if kind != _GREEDY:
            return _CHOOSERS[kind](self._edited(logits, draws), draws)
        chosen = logits.argmax(axis=1)
        pairs = enumerate(zip(chosen.tolist(), draws, strict=True))
        changed = [row for row, (token, draw) in pairs if draw.changes_logits or token in draw.ruled_out]
        if changed:
            chosen[changed] = self._edited(logits[changed], [draws[row] for row in changed]).argmax(axis=1)
        return np.asarray(chosen)

    def _edited(self, logits: NDArray[np.float32], draws: Sequence[Draw]) -> NDArray[np.float32]:
        """A copy with bias, barred tokens and penalties, filled up with minus infinity to whole blocks."""
        if len(draws) == 1:
            rows = np.concatenate((logits, self._padding), axis=1)
            rows[0][draws[0].barred] = -np.inf
        else:
            rows = np.concatenate((logits, self._padding.repeat(len(draws), axis=0)), axis=1)
            barred = [draw.barred for draw in draws]
            rows[np.repeat(np.arange(len(draws)), [len(ids) for ids in barred]), np.concatenate(barred)] = -np.inf
        for index, draw in enumerate(draws):
            if draw.changes_logits:
                _change(rows[index], draw)
        return rows


@np.errstate(over="ignore")  # a very high penalty leaves no recent token
def _change(row: NDArray[np.float32], draw: Draw) -> None:
    """Add the bias, then apply the repetition penalty; minus infinity stays."""
    if draw.bias is not None:
        ids, values = draw.bias
        row[ids] += values
    penalty = min(draw.sampling.repetition_penalty, _LARGEST)
    if draw.recent and penalty != 1:
        ids = np.array(list(set(draw.recent)))
        values = row[ids]
        row[ids] = np.where(values > 0, values / penalty, values * penalty)


def _among_all(rows: NDArray[np.float32], draws: Sequence[Draw]) -> NDArray[np.int64]:
    """Draw among all tokens, in the order of their ids: first a block, then a token of it."""
    blocks = _probabilities(rows, draws).reshape(len(rows), -1, _BLOCK)
    sums = _cumulative(_block_sums(blocks))
    if len(rows) == 1:
        return np.array([_one_among_all(blocks[0], sums[0], draws[0])])
    numbers = _numbers(draws) * sums[:, -1:]
    places = _first_above(sums, numbers)
    every = np.arange(len(rows))
    inside = _cumulative(blocks[every, places])
    before = np.where(places > 0, sums[every, places - 1], 0.0)[:, None]
    shares = (numbers - before) / (sums[every, places][:, None] - before)
    within = _first_above(inside, np.minimum(np.maximum(shares, _LEAST), _MOST) * inside[:, -1:])
    return places * _BLOCK + within


def _one_among_all(blocks: NDArray[np.float32], sums: NDArray[np.float64], draw: Draw) -> int:
    number = draw.number() * float(sums[-1])
    place = int(sums.searchsorted(number, "right"))
    before = float(sums[place - 1]) if place else 0.0
    share = (number - before) / (float(sums[place]) - before)
    inside = np.add.accumulate(blocks[place], dtype=np.float64)
    within = int(inside.searchsorted(min(max(share, _LEAST), _MOST) * float(inside[-1]), "right"))
    return place * _BLOCK + within


def _in_nucleus(rows: NDArray[np.float32], draws: Sequence[Draw]) -> NDArray[np.int64]:
    """Draw among the fewest most probable tokens whose probabilities reach `top_p`, in falling order."""
    probabilities = _probabilities(rows, draws)
    sums = _block_sums(probabilities.reshape(len(rows), -1, _BLOCK))
    shares = np.array([[draw.sampling.top_p] for draw in draws])
    wanted = sums.sum(axis=1, dtype=np.float64, keepdims=True) * shares
    return _in_prefix(probabilities, wanted, draws, _FEW)


def _in_prefix(
    rows: NDArray[np.float32], wanted: NDArray[np.float64], draws: Sequence[Draw], count: int
) -> NDArray[np.int64]:
    """Draw among the fewest largest numbers of each row that reach `wanted`, if possible among the `count` largest."""
    best = _largest(rows, count)
    is_enough = np.add.reduce(best, axis=1) >= wanted[:, 0]
    if count >= rows.shape[1] or is_enough.all():
        best = _falling(best)
        return _drawn(rows, best, _cumulative(best), wanted, draws)
    larger = _GROWTH * count
    if not is_enough.any():
        return _in_prefix(rows, wanted, draws, larger)
    chosen = np.empty(len(rows), np.int64)
    for members, size in ((np.flatnonzero(is_enough), count), (np.flatnonzero(~is_enough), larger)):
        theirs = [draws[row] for row in members.tolist()]
        chosen[members] = _in_prefix(rows[members], wanted[members], theirs, size)
    return chosen


def _among_best(rows: NDArray[np.float32], draws: Sequence[Draw]) -> NDArray[np.int64]:
    """Draw among each text's `top_k` most probable tokens, or their nucleus, in falling order."""
    counts = [draw.sampling.top_k or 0 for draw in draws]
    best = _falling(_largest(rows, max(counts)))
    weights = np.exp(_tempered(best, best[:, :1], draws))
    if min(counts) < weights.shape[1]:
        weights[np.arange(weights.shape[1]) >= np.array(counts)[:, None]] = 0
    sums = _cumulative(weights)
    shares = np.array([[draw.sampling.top_p or 1.0] for draw in draws])
    return _drawn(rows, best, sums, shares * sums[:, -1:], draws)


_CHOOSERS = {
    _ALL: _among_all,
    _NUCLEUS: _in_nucleus,
    _BEST: _among_best,
    _MANY_BEST: _among_best,
}


def _drawn(
    rows: NDArray[np.float32],
    best: NDArray[np.float32],
    sums: NDArray[np.float64],
    wanted: NDArray[np.float64],
    draws: Sequence[Draw],
) -> NDArray[np.int64]:
    """Draw among the fewest largest numbers of each row whose weights reach `wanted`.

    Args:
        rows: float32 [texts, width], logits or probabilities.
        best: float32 [texts, count], the largest of them, falling.
        sums: float64 [texts, count], cumulative weights of `best`.
        wanted: float64 [texts, 1].
        draws: One for each text.
    """
    if len(rows) == 1:
        return np.array([_one_drawn(rows[0], best[0], sums[0], float(wanted[0, 0]), draws[0])])
    every = np.arange(len(rows))
    reached = sums >= wanted
    reached[:, -1] = True
    mass = sums[every, reached.argmax(axis=1)][:, None]
    places = _first_above(sums, _numbers(draws) * mass)
    values = best[every, places][:, None]
    found = (rows == values).argmax(axis=1)
    ranks = places - (best == values).argmax(axis=1)  # among equal numbers
    for row in np.flatnonzero(ranks).tolist():
        found[row] = np.flatnonzero(rows[row] == values[row])[ranks[row]]
    return np.asarray(found)


def _one_drawn(
    row: NDArray[np.float32], best: NDArray[np.float32], sums: NDArray[np.float64], wanted: float, draw: Draw
) -> int:
    mass = float(sums[min(int(sums.searchsorted(wanted)), len(sums) - 1)])
    place = int(sums.searchsorted(draw.number() * mass, "right"))
    value = best[place]
    if place == 0 or best[place - 1] != value:
        return int((row == value).argmax())
    return int(np.flatnonzero(row == value)[place - int((best == value).argmax())])


def _largest(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The `count` largest numbers of each row in any order; all if it has no more."""
    start = max(rows.shape[1] - count, 0)
    parted = rows.copy()
    parted.partition(start, axis=1)
    return parted[:, start:]


def _falling(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sort each row, in place."""
    numbers.sort(axis=1)
    return numbers[:, ::-1]


def _probabilities(rows: NDArray[np.float32], draws: Sequence[Draw]) -> NDArray[np.float32]:
    """Probabilities at the temperatures, float32 of the shape of `rows`."""
    if any(draw.sampling.temperature != 1 for draw in draws):
        rows = _tempered(rows, rows.max(axis=1, keepdims=True), draws)
    return softmax(rows)


@np.errstate(over="ignore")  # a very low temperature leaves one token
def _tempered(rows: NDArray[np.float32], largest: NDArray[np.float32], draws: Sequence[Draw]) -> NDArray[np.float32]:
    """`rows` less their largest numbers, float32 [texts, 1], divided by the temperatures."""
    tempered = rows - largest
    factors = [min(max(1 / max(draw.sampling.temperature, _SMALLEST), _SMALLEST), _LARGEST) for draw in draws]
    if len(factors) == 1:
        tempered *= np.float32(factors[0])
    else:
        tempered *= np.array(factors, np.float32)[:, None]
    return np.asarray(tempered)


def _numbers(draws: Sequence[Draw]) -> NDArray[np.float64]:
    return np.array([[draw.number()] for draw in draws])


def _block_sums(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.einsum("rbi->rb", blocks))


def _cumulative(numbers: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.add.accumulate(numbers, axis=1, dtype=np.float64)


def _first_above(sums: NDArray[np.float64], numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of each row's first number above that of `numbers`, [rows, 1], which lies below the last."""
    return np.asarray((sums > numbers).argmax(axis=1))

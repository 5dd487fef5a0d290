"""The choice of the next token of many texts at once, without sorting the vocabulary.

onnxruntime draws, by small graphs without weights (see `session.weightless`), for one text on arrays that stay bound.
With top-p it draws from all tokens until one lies in the nucleus (rejection sampling); the nucleus is sorted only after
eight draws, or after one where top-p is below a half.
"""

import os
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..session.row_calls import RowCall, padded_width, row_calls, run_rows
from ..session.weightless import (
    COUNT,
    FACTOR,
    LAST,
    NUMBER,
    PROBABILITIES,
    ROWS,
    SHARE,
    TOKEN,
    TOTAL,
    best_graph,
    drawing_graph,
    nucleus_graph,
    tempered_drawing_graph,
)
from .draw import ALL, BEST, GREEDY, MANY_BEST, NUCLEUS, TEMPERED, Draw, following_number

_FEW, _GROWTH = 1024, 8
"""Number of most probable tokens that are sorted first for top-p, and what it grows by where the nucleus is larger."""
_LARGE_SHARE, _TURNS = 0.5, 8
"""Draws from all tokens before the nucleus is sorted, where it has a large share of the probability; one where not."""

_GRAPHS = {ALL: drawing_graph, TEMPERED: tempered_drawing_graph, BEST: best_graph, MANY_BEST: best_graph}
"""Graphs that draw the token."""


@final
class TokenSampler:
    """Chooses tokens by `Sampling`; a text's choice does not depend on the others of the call. Thread-safe.

    Example:
        >>> import numpy as np
        >>> from lmtool.runtime import Sampling
        >>> from lmtool.runtime.draws.draw import Draw
        >>> from lmtool.runtime.draws.token_sampler import TokenSampler
        >>> draw = Draw(Sampling("greedy"), np.random.default_rng(1), barred=np.array([2]))
        >>> TokenSampler(3).choose(np.array([[0.5, 1, 2]], np.float32), [draw]).tolist()
        [1]
    """

    def __init__(self, vocabulary_size: int) -> None:
        self._size = vocabulary_size
        self._width = padded_width(vocabulary_size)

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
        for row, draw in zip(logits, draws, strict=True):
            draw.find_boundary(row)
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
        draw.find_boundary(logits)
        kind = draw.kinds[draw.at_boundary]
        if kind == GREEDY and not draw.changes_logits and draw.closed is None:
            token = int(logits.argmax())
            if token not in draw.ruled_out:
                return token
        calls = row_calls(self._size, os.getpid())
        call = calls.take()
        call.logits[:] = logits
        draw.change(call.logits)
        token = _choose_row(kind, call, draw)
        calls.give_back(call)
        return token

    def _choose_alike(self, kind: int, logits: NDArray[np.float32], draws: Sequence[Draw]) -> NDArray[np.int64]:
        if kind == GREEDY:
            return self._greedy(logits, draws)
        inputs: dict[str, NDArray[Any]] = {ROWS: self._changed(logits, draws)}
        if kind != ALL:
            inputs[FACTOR] = np.array([[draw.factor] for draw in draws], np.float32)
        if kind == NUCLEUS:
            return _choose_in_nuclei(inputs, draws)
        inputs[NUMBER] = np.array([[draw.number()] for draw in draws])
        if kind in (BEST, MANY_BEST):
            counts = np.array([[min(draw.count, self._size)] for draw in draws])
            inputs.update({SHARE: np.array([[draw.share] for draw in draws]), COUNT: counts.max(0), LAST: counts - 1})
        return run_rows(_GRAPHS[kind], [TOKEN], inputs)[0][:, 0]

    def _greedy(self, logits: NDArray[np.float32], draws: Sequence[Draw]) -> NDArray[np.int64]:
        chosen = logits.argmax(axis=1)
        pairs = enumerate(zip(chosen.tolist(), draws, strict=True))
        changed = [
            row
            for row, (token, draw) in pairs
            if draw.changes_logits or draw.closed is not None or token in draw.ruled_out
        ]
        if changed:
            chosen[changed] = self._changed(logits[changed], [draws[row] for row in changed]).argmax(axis=1)
        return np.asarray(chosen)

    def _changed(self, logits: NDArray[np.float32], draws: Sequence[Draw]) -> NDArray[np.float32]:
        """A copy with the changes of the draws, filled up with minus infinity."""
        rows = np.empty((len(draws), self._width), np.float32)
        rows[:, : self._size] = logits
        rows[:, self._size :] = -np.inf
        for row, draw in zip(rows, draws, strict=True):
            draw.change(row)
        return rows


def _choose_row(kind: int, call: RowCall, draw: Draw) -> int:
    """Choose a token by the logits of a call."""
    if kind == GREEDY:
        return int(call.logits.argmax())
    call.factor[0] = draw.factor
    if kind == NUCLEUS:
        return _choose_in_nucleus(call, draw)
    call.number[0] = draw.number()
    if draw.count:
        call.share[0] = draw.share
        call.count[0] = count = min(draw.count, len(call.logits))
        call.last[0] = count - 1
    call.run(_GRAPHS[kind])
    return call.token[0]


def _choose_in_nucleus(call: RowCall, draw: Draw) -> int:
    number, turn = draw.number(), 1
    while True:
        call.number[0] = number
        call.run(nucleus_graph)
        token = _settled(call.token[0], call.probabilities, call.total[0], draw.share, number, turn)
        if token is not None:
            return token
        number, turn = following_number(number), turn + 1


def _choose_in_nuclei(inputs: dict[str, NDArray[Any]], draws: Sequence[Draw]) -> NDArray[np.int64]:
    """As `_choose_in_nucleus`, for rows of logits and their factors."""
    numbers, chosen = np.array([[draw.number()] for draw in draws]), np.empty(len(draws), np.int64)
    left, turn = list(range(len(draws))), 1
    while left:
        rows = {NUMBER: numbers[left], **{name: each[left] if turn > 1 else each for name, each in inputs.items()}}
        tokens, probabilities, totals = run_rows(nucleus_graph, [TOKEN, PROBABILITIES, TOTAL], rows)
        rejected = []
        for row, drawn, of_row, total in zip(left, tokens[:, 0].tolist(), probabilities, totals[:, 0], strict=True):
            number = numbers.item(row)
            token = _settled(drawn, of_row, total, draws[row].share, number, turn)
            if token is None:
                numbers[row] = following_number(number)
                rejected.append(row)
            else:
                chosen[row] = token
        left, turn = rejected, turn + 1
    return chosen


def _settled(
    token: int, probabilities: NDArray[np.float32], total: float, share: float, number: float, turn: int
) -> int | None:
    """The token that `number` drew from all, if it lies in the nucleus; after the last turn one found by sorting.

    None: the following number is to draw another one.
    """
    wanted = total * share
    if _is_in_nucleus(token, probabilities, wanted):
        return token
    if turn == _TURNS or share < _LARGE_SHARE:
        return _by_sorting(probabilities, wanted, following_number(number))
    return None


def _is_in_nucleus(token: int, probabilities: NDArray[np.float32], wanted: float) -> bool:
    """Whether it is one of the fewest most probable tokens whose probabilities reach `wanted`, ties by id.

    They are summed in float32, in half the time of float64: tokens at the edge may differ by its rounding.
    """
    own = probabilities.item(token)
    upto = np.add.reduce(probabilities.compress(probabilities >= own)).item()
    if upto - own < wanted:
        return True
    equal = probabilities == own
    later = int(np.count_nonzero(equal[token:]))
    return bool(upto - later * own < wanted)


def _by_sorting(probabilities: NDArray[np.float32], wanted: float, number: float) -> int:
    """A token of the nucleus whose probabilities reach `wanted`, drawn in falling order, ties by id."""
    rising, sums = _largest(probabilities, _FEW)
    while len(sums) < len(probabilities) and sums[-1] < wanted:
        rising, sums = _largest(probabilities, _GROWTH * len(sums))
    last = len(sums) - 1
    mass = sums.item(min(int(sums.searchsorted(wanted)), last))
    place = int(sums.searchsorted(number * mass, "right"))
    value = rising[last - place]
    larger = len(rising) - int(rising.searchsorted(value, "right"))
    return int(np.flatnonzero(probabilities == value)[place - larger])


def _largest(numbers: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The `count` largest of float32 [n], rising, all if there are no more; and their sums from the largest on."""
    start = max(len(numbers) - count, 0)
    rising = np.partition(numbers, start)[start:]
    rising.sort()
    return rising, np.add.accumulate(rising[::-1], dtype=np.float64)

"""The choice of the next token of many texts at once, without sorting the vocabulary.

onnxruntime draws, by small graphs without weights (see `session.weightless`), for one text on arrays that stay bound.
Only the nucleus of top-p is found by numpy, whose sort is faster than onnxruntime's.
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
    tempered_drawing_graph,
    tempered_graph,
)
from .draw import ALL, BEST, GREEDY, MANY_BEST, NUCLEUS, TEMPERED, Draw

_FEW, _GROWTH = 1024, 8
"""Number of most probable tokens that are sorted first for top-p, and what it grows by where the nucleus is larger."""

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
            probabilities, totals = run_rows(tempered_graph, [PROBABILITIES, TOTAL], inputs)
            rows = zip(probabilities, totals[:, 0].tolist(), *_largest(probabilities, _FEW), draws, strict=True)
            return np.array([_in_nucleus(*row) for row in rows])
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
        call.run(tempered_graph)
        return _in_nucleus(call.probabilities, call.total[0], *_largest(call.probabilities, _FEW), draw)
    call.number[0] = draw.number()
    if draw.count:
        call.share[0] = draw.share
        call.count[0] = count = min(draw.count, len(call.logits))
        call.last[0] = count - 1
    call.run(_GRAPHS[kind])
    return call.token[0]


def _in_nucleus(
    probabilities: NDArray[np.float32],
    total: float,
    rising: NDArray[np.float32],
    sums: NDArray[np.float64],
    draw: Draw,
) -> int:
    """Draw among the fewest most probable tokens whose probabilities reach `top_p`, in falling order, ties by id.

    Args:
        probabilities: float32 [n].
        total: Their sum.
        rising: The largest of them, as `_largest` returns them; if they do not reach `top_p`, more are found.
        sums: Theirs.
        draw: Of the text.
    """
    wanted, size = total * draw.share, len(probabilities)
    while len(sums) < size and sums[-1] < wanted:
        rising, sums = _largest(probabilities, _GROWTH * len(sums))
    last = len(sums) - 1
    mass = sums.item(min(int(sums.searchsorted(wanted)), last))
    place = int(sums.searchsorted(draw.number() * mass, "right"))
    value = rising[last - place]
    found = probabilities == value
    if place == 0 or rising[last - place + 1] != value:
        return int(found.argmax())
    larger = len(rising) - int(rising.searchsorted(value, "right"))
    return int(np.flatnonzero(found)[place - larger])


def _largest(numbers: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The `count` largest of float32 [..., n], rising, all if there are no more; and their sums from the largest on."""
    start = max(numbers.shape[-1] - count, 0)
    rising = np.partition(numbers, start)[..., start:]
    rising.sort()
    return rising, np.add.accumulate(rising[..., ::-1], axis=-1, dtype=np.float64)

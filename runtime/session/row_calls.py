"""Calls of the weightless graphs on rows of logits: on one by bound arrays, or on many."""

import functools
import os
from array import array
from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .bound_call import BoundCall, Reused
from .providers import PROVIDERS
from .session import SessionOptions, start_session
from .weightless import (
    BEST_IDS,
    BEST_LOGITS,
    BLOCK,
    COUNT,
    FACTOR,
    LARGEST,
    LAST,
    NUMBER,
    PROBABILITIES,
    ROWS,
    SHARE,
    TOKEN,
    TOTAL,
    TOTAL_OF_ALL,
)

RANKED = 32
"""Tokens that a call on one row ranks."""

Graph = Callable[[], bytes]
"""A function of `weightless`."""

_NUMBERS_OF_A_CALL = 1 << 19
"""Most logits of a call, 2 MiB, which bounds the memory that its session keeps."""


def padded_width(vocabulary_size: int) -> int:
    """Width of the rows for a vocabulary: whole blocks, and two at least."""
    return max(-(-vocabulary_size // BLOCK), 2) * BLOCK


def run_rows(graph: Graph, outputs: list[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Outputs of a graph for many rows, [rows, ...] each; `count` is one number for all. Thread-safe."""
    rows, width = inputs[ROWS].shape
    size = max(_NUMBERS_OF_A_CALL // width, 1)
    run = session_of(graph, os.getpid()).run
    parts = [
        run(outputs, {name: each if name == COUNT else each[start : start + size] for name, each in inputs.items()})
        for start in range(0, rows, size)
    ]
    return parts[0] if len(parts) == 1 else [np.concatenate(each) for each in zip(*parts, strict=True)]


@final
class RowCall:
    """Bound calls on one row; belongs to one thread at a time.

    Single numbers are arrays of Python's `array`, which reads and writes them in a tenth of numpy's time.

    Attributes:
        rows: float32 [1, width], minus infinity beyond the vocabulary.
        logits: float32 [vocabulary], to be written; a part of `rows`.
        factor, number, share, last, count: Inputs of the graphs, one number each.
        token, total, largest, total_of_all: Outputs, one number each.
        probabilities: float32 [width], an output; about 0 beyond the vocabulary.
        best_ids, best_logits: Outputs, `RANKED` numbers each.
    """

    def __init__(self, vocabulary_size: int) -> None:
        width = padded_width(vocabulary_size)
        self.rows, probabilities = np.full((1, width), -np.inf, np.float32), np.zeros((1, width), np.float32)
        self.logits, self.probabilities = self.rows[0, :vocabulary_size], probabilities[0]
        self.factor, self.number, self.share = array("f", [1]), array("d", [0]), array("d", [1])
        self.last, self.count = array("q", [0]), array("q", [1])
        self.token, self.total = array("q", [0]), array("d", [0])
        self.largest, self.total_of_all = array("f", [0]), array("f", [0])
        self.best_ids, self.best_logits = array("q", [0] * RANKED), array("f", [0] * RANKED)
        numbers: dict[str, array[Any]] = {
            FACTOR: self.factor,
            NUMBER: self.number,
            SHARE: self.share,
            LAST: self.last,
            TOKEN: self.token,
            TOTAL: self.total,
            LARGEST: self.largest,
            TOTAL_OF_ALL: self.total_of_all,
            BEST_IDS: self.best_ids,
            BEST_LOGITS: self.best_logits,
        }
        self._arrays: dict[str, NDArray[Any]] = {name: _as_array(each)[None] for name, each in numbers.items()}
        self._arrays.update({COUNT: _as_array(self.count), ROWS: self.rows, PROBABILITIES: probabilities})
        self._calls: dict[Graph, BoundCall] = {}

    def run(self, graph: Graph) -> None:
        """Read the arrays that are inputs of the graph, and write those that are outputs."""
        call = self._calls.get(graph)
        if call is None:
            call = self._calls[graph] = self._bound(graph)
        call.run()

    def _bound(self, graph: Graph) -> BoundCall:
        session = session_of(graph, os.getpid())
        inputs, outputs = (
            {node.name: self._arrays[node.name] for node in nodes}
            for nodes in (session.get_inputs(), session.get_outputs())
        )
        return BoundCall(session, inputs, outputs)


def _as_array(numbers: "array[Any]") -> NDArray[Any]:
    """A numpy array of the same memory."""
    return np.frombuffer(numbers, numbers.typecode)


@functools.lru_cache(maxsize=8)
def row_calls(vocabulary_size: int, process: int) -> Reused[RowCall]:
    """The calls of this process on rows of a vocabulary."""
    return Reused(functools.partial(RowCall, vocabulary_size))


@functools.lru_cache(maxsize=16)
def session_of(graph: Graph, process: int) -> Any:
    """The session of this process over a graph; starts in 2 ms."""
    return start_session(graph(), PROVIDERS["cpu"], SessionOptions(threads=1, memory_arena=True))

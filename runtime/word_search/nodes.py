"""Nodes: positions after a token, with what the model says of the next one; they form a tree of continuations."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Tensors
from ..cache import CacheMemory
from ..score import require_finite
from ..state import State

if TYPE_CHECKING:
    from ..network import Network

RARE = 0.002


@final
class Node:
    """A position in a text.

    Attributes:
        probabilities: float32 [vocabulary], of the next token.
        tensors: The states of several nodes after one call, float32 [rows, width] each.
        row: Which row is the node's.
        children: Token id -> the position after it, for tokens that were run.
    """

    __slots__ = ("_sums", "_top", "children", "probabilities", "row", "tensors")

    def __init__(self, probabilities: NDArray[np.float32], tensors: Tensors, row: int = 0) -> None:
        self.probabilities = probabilities
        self.tensors = tensors
        self.row = row
        self.children: dict[int, Node] = {}
        self._top: list[tuple[int, float]] | None = None
        self._sums: dict[Any, float] = {}

    @property
    def top(self) -> list[tuple[int, float]]:
        """Tokens that are more probable than `RARE`, with their probabilities, the most probable first."""
        if self._top is None:
            ids = np.flatnonzero(self.probabilities > RARE)
            pairs = zip(ids.tolist(), self.probabilities[ids].tolist(), strict=True)
            self._top = sorted(pairs, key=lambda pair: -pair[1])
        return self._top

    def sum(self, key: Any, ids: Callable[[], NDArray[np.int64]]) -> float:
        """The probability of these tokens together, kept under a key."""
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = float(np.add.reduce(self.probabilities[ids()], dtype=np.float64))
        return found

    @classmethod
    def of_logits(cls, logits: NDArray[np.float32], state: State) -> "Node":
        """The node of a stream: finite logits, float32 [vocabulary], and the state of one row."""
        return cls(_softmax(logits[None])[0], state.tensors)

    def detach(self) -> None:
        """Copy what the node needs, so that the results of others in its call can be freed."""
        self.probabilities = self.probabilities.copy()
        self.tensors = tuple(tensor[self.row : self.row + 1].copy() for tensor in self.tensors)
        self.row = 0


@final
class NodeRunner:
    """Runs tokens after nodes, many in one call.

    With a cache, its pairs are those at the start of the search.
    """

    def __init__(self, network: "Network", memory: CacheMemory | None = None) -> None:
        """`memory`: the cache of a stream, which is not changed."""
        self._network = network
        self._memory = memory

    def run(self, parents: Sequence[Node], tokens: Sequence[int]) -> list[Node]:
        """The nodes after a token each, of batches of any size; they become children of their parents.

        Raises:
            NumberError: A logit is NaN or infinite.
        """
        given = [parent.tensors for parent in parents]
        rows = [parent.row for parent in parents]
        tensors = tuple(
            np.concatenate([each[layer][row : row + 1] for each, row in zip(given, rows, strict=True)])
            for layer in range(len(given[0]))
        )
        logits, after = self._network.run_rows(np.array(tokens, np.int64)[:, None], tensors)
        nodes = self._nodes(logits[:, -1], after)
        for parent, token, node in zip(parents, tokens, nodes, strict=True):
            parent.children[token] = node
        return nodes

    def read(self, node: Node, tokens: Sequence[int]) -> Node:
        """The node after one or more tokens in a row."""
        if len(tokens) == 1:
            return self.run([node], tokens)[0]
        tensors = tuple(tensor[node.row : node.row + 1] for tensor in node.tensors)
        logits, after = self._network.run_rows(np.array([tokens], np.int64), tensors)
        return self._nodes(logits[:, -1], after)[0]

    def _nodes(self, logits: NDArray[np.float32], after: State) -> list[Node]:
        require_finite(logits, "logits")
        if self._memory is not None:
            hidden = self._network.last_hidden(after)
            logits = np.array([self._memory.mixed(*each) for each in zip(logits, hidden, strict=True)])
        probabilities = _softmax(logits)
        return [Node(each, after.tensors, row) for row, each in enumerate(probabilities)]


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of each row."""
    weights: NDArray[np.float32] = logits - logits.max(axis=1, keepdims=True)
    np.exp(weights, out=weights)
    weights *= 1 / weights.sum(axis=1, keepdims=True)
    return weights

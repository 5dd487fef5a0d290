"""WordLine: the words for a line that is being typed; what ran for a keystroke is kept for the next ones."""

from collections.abc import Callable
from typing import TYPE_CHECKING, final

import numpy as np

from ..suggestions import Suggestion
from .beginnings import Beginnings
from .nodes import Node
from .search import FoundWord, Wish, WordSearch
from .word_finder import Typed, shown

if TYPE_CHECKING:
    from ..network import Network

_KEPT_NODES = 1024
_CHUNK = 512


@final
class WordLine:
    """The words after a line, and the rests of its last word.

    The latest nodes are kept, about 1,024 of them: another letter of a word runs only what the letters before it did
    not need, a finished word goes on from its node, and deleting text returns to kept ones.

    Attributes:
        exact: Whether the latest suggestions are exact (see `NextWords`).
    """

    def __init__(self, network: "Network", hidden: Callable[[str], bool]) -> None:
        """Begin a text. `hidden`: whether a word is not suggested."""
        self._finder = network.word_finder
        self._vocabulary = network.vocabulary
        self._hidden = hidden
        self.exact = True
        start = Node(np.zeros(0, np.float32), network.initial_state(1).tensors)
        first = self._finder.runner.read(start, [self._vocabulary.end_of_sentence_id])
        self._contexts = Beginnings(first)
        self._ran = 0

    def words(self, line: str, count: int) -> list[Suggestion]:
        """The most probable continuations of a line, the most probable first."""
        typed = self._finder.split(line)
        node = self._after(typed.ids)
        wish = Wish(count, typed.letters, beyond=True, with_spaces=True, hidden=self._hidden)
        found = WordSearch(self._finder.table, self._finder.runner, wish).after(node)
        self._count(found.ran)
        self.exact = found.exact and typed.whole
        return [_suggestion(typed, word) for word in found.words]

    def end_line(self, line: str) -> None:
        """Read the line and the end of its sentence."""
        self._contexts = Beginnings(self._after(self._vocabulary.encode(f"{line}\n")))
        self._ran = 0

    def _count(self, ran: int) -> None:
        """Count nodes after contexts, and forget all when they are too many."""
        self._ran += ran
        if self._ran > _KEPT_NODES:
            self._ran = 0
            for node in self._contexts:
                node.children = {}

    def _after(self, ids: list[int]) -> Node:
        """The node after these tokens of the line: a kept one, or run from that with the longest common beginning."""
        key = tuple(ids)
        known, node = self._contexts.longest(key)
        if known < len(key):
            while known < len(key) and (child := node.children.get(key[known])) is not None:
                node, known = child, known + 1
            for start in range(known, len(key), _CHUNK):
                node = self._finder.runner.read(node, key[start : start + _CHUNK])
            node.detach()
        self._contexts.keep(key, node)
        return node


def _suggestion(typed: Typed, word: FoundWord) -> Suggestion:
    text = word.data[len(typed.letters) :].decode(errors="replace")
    return Suggestion(text, 0, shown(word.data[word.start :]), word.probability)

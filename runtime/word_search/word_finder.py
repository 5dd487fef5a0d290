"""WordFinder: the words that may follow a text, or complete the letters that are typed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, final

from ..cache import CacheMemory
from ..text.byte_pairs import unicode_text
from .nodes import Node, NodeRunner
from .search import Wish, WordSearch
from .token_table import Kind, TokenTable

if TYPE_CHECKING:
    from ..network import Network

_LONGEST_TYPED = 32
"""Bytes; of more letters the first ones are read as the rule writes them."""


class NextWords(NamedTuple):
    """The most probable next words.

    Attributes:
        words: Words and their probabilities, the most probable first.
        exact: Whether no other word is more probable than the last of them. False if the search was cut.
    """

    words: list[tuple[str, float]]
    exact: bool


class Typed(NamedTuple):
    """A text that is being typed.

    Attributes:
        ids: Tokens of its beginning, which further letters do not change.
        letters: Bytes of the rest, with the space before it.
        whole: Whether the letters begin where a word does; false for very long ones.
    """

    ids: list[int]
    letters: bytes
    whole: bool


@final
class WordFinder:
    """Finds words by a network of parts of words. Thread-safe."""

    def __init__(self, network: "Network") -> None:
        """Sort the tokens of the network, which takes a tenth of a second."""
        self._network = network
        self._vocabulary = network.vocabulary
        self.table = TokenTable(network.vocabulary)
        self.runner = NodeRunner(network)

    def split(self, text: str) -> Typed:
        """The tokens of a text, and the letters of its last word, which may be unfinished."""
        tokens, last = self._vocabulary.tokenization.split_last_piece(text)
        ids, letters = self._vocabulary.ids(tokens), last.encode()
        if len(letters) <= _LONGEST_TYPED:
            return Typed(ids, letters, True)
        for token in self._vocabulary.encode(last):
            if len(letters) <= _LONGEST_TYPED and _begins_at_character(letters):
                break
            ids.append(token)
            letters = letters[len(self.table.data[token]) :]
        return Typed(ids, letters, False)

    def find(
        self,
        node: Node,
        last: int | None,
        letters: str,
        count: int,
        hidden: Callable[[str], bool],
        memory: CacheMemory | None,
    ) -> NextWords:
        """The words after a position that begin with `letters`, shown without the space before them.

        Args:
            node: The position.
            last: The last token there; None before a space that belongs to the word.
            letters: Letters of the word; none for all words.
            count: The number of words.
            hidden: Whether a word is not suggested.
            memory: The cache of the stream, which is not changed.
        """
        before = Kind.NOTHING if last is None else self.table.kind_after(last)
        is_spaced = last is None or (letters and before != Kind.NOTHING)
        letters = unicode_text(f" {letters}" if is_spaced else letters)
        typed, runner = self.split(letters), NodeRunner(self._network, memory)
        if typed.ids:
            node = runner.read(node, typed.ids)
        found = WordSearch(self.table, runner, Wish(count, typed.letters, before, hidden=hidden)).after(node)
        head = letters.encode().removesuffix(typed.letters)
        words = [(shown(head + word.data), word.probability) for word in found.words]
        return NextWords(words, found.exact and typed.whole)


def _begins_at_character(data: bytes) -> bool:
    return not 0x80 <= data[0] < 0xC0


def shown(data: bytes) -> str:
    """A word without the space before it."""
    return data.decode(errors="replace").removeprefix(" ")

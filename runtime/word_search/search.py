"""The best-first search for the most probable words after a text.

A path is a way to write the begin of a word in tokens. The most probable paths run first, several in one call, until
none can become a word that is more probable than those that were found. Only tokens as the rule writes them are
followed: the model has read no others. So each word has one path, and its probability is the product of its tokens'
probabilities and the probability that the next token does not make it longer.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from .nodes import RARE, Node, NodeRunner
from .token_table import Kind, TokenTable, decoded

ROWS = 16
"""Paths that run in one call."""
_MOST_PATHS, _PATHS_PER_WORD, _LIMIT = 192, 4, 2048
_LONGEST_WORD = 64
_UNSURE = 0.002
"""Share of the probability of the typed letters that may be unknown; half of it for a word before an apostrophe."""


class FoundWord(NamedTuple):
    """A word: the bytes after the text, the typed letters first; where in them the word begins; its probability."""

    data: bytes
    start: int
    probability: float


class Found(NamedTuple):
    """Words that may follow a text.

    Attributes:
        words: The most probable ones first.
        exact: Whether no other word is as probable as the last of them.
        ran: Paths that ran.
    """

    words: list[FoundWord]
    exact: bool
    ran: int


@dataclass(frozen=True)
class Wish:
    """What is searched.

    Attributes:
        count: The number of words.
        typed: The bytes that the continuation begins with: one piece of the rule that may be unfinished, or none.
        before: What the text before `typed` ends with.
        beyond: Whether the word that was typed may be whole, so that the next one is suggested in its place.
        with_spaces: Whether a word with a space before it and one without are two.
        hidden: Whether a word, without a space before it, is not suggested.
    """

    count: int
    typed: bytes = b""
    before: Kind = Kind.NOTHING
    beyond: bool = False
    with_spaces: bool = False
    hidden: Callable[[str], bool] = lambda word: False


class _Path(NamedTuple):
    """`text` and then `rest` begin with the typed letters; `start` is where the word begins in `text`."""

    node: Node
    probability: float
    text: bytes = b""
    rest: bytes = b""
    kind: int = Kind.NOTHING
    token: int = -1
    start: int = 0


@final
class _Tokens:
    """Tokens after a path, the most probable first; the rare ones are sorted when they are needed.

    Attributes:
        path: What they make longer.
        kinds: Token id -> the `Kind` of the word after it, 0 for tokens that do not fit.
        start: Where the word begins in the path's text.
        joins: Whether they belong to the same piece as the path's last token.
    """

    __slots__ = ("_place", "_table", "_tokens", "_with_rare", "joins", "kinds", "path", "start")

    def __init__(self, table: TokenTable, path: _Path, kinds: bytes, start: int, joins: bool) -> None:
        self.path, self.kinds, self.start, self.joins = path, kinds, start, joins
        self._table = table
        self._place, self._with_rare = 0, False
        data, rest = table.data, path.rest
        if rest:
            self._tokens = [each for each in path.node.top if kinds[each[0]] and data[each[0]].startswith(rest)]
        else:
            self._tokens = [each for each in path.node.top if kinds[each[0]]]

    @property
    def chance(self) -> float:
        """At least the probability of the next path; 0 if there is none."""
        if self._place < len(self._tokens):
            return self.path.probability * self._tokens[self._place][1]
        return 0.0 if self._with_rare else self.path.probability * RARE

    def take(self) -> tuple[int, float] | None:
        """The next token and the path's probability; None if that has yet to be found."""
        if self._place == len(self._tokens):
            self._add_rare()
            return None
        token, share = self._tokens[self._place]
        self._place += 1
        return token, self.path.probability * share

    def _add_rare(self) -> None:
        node, self._with_rare = self.path.node, True
        ids = self._table.covering(self.path.rest)
        ids = ids[(node.probabilities[ids] <= RARE) & (np.frombuffer(self.kinds, np.int8)[ids] != Kind.NOTHING)]
        chances = node.probabilities[ids]
        order = np.argsort(-chances, kind="stable")
        self._tokens += zip(ids[order].tolist(), chances[order].tolist(), strict=True)


@final
class WordSearch:
    """One search: `WordSearch(table, runner, wish).after(node)`."""

    def __init__(self, table: TokenTable, runner: NodeRunner, wish: Wish) -> None:
        """Begin with no words."""
        self._table, self._runner, self._wish = table, runner, wish
        self._words: dict[tuple[bytes, int], float] = {}
        self._last = 0.0  # probability of the last of the words that are wanted
        self._open: list[tuple[float, int, _Tokens | _Path]] = []
        self._parts: list[tuple[float, int, _Path, int]] = []  # paths within the typed letters, with their last token
        self._waiting: list[tuple[_Path, int]] = []
        self._serial = 0
        self._total = 0.0 if wish.typed else 1.0  # probability of the typed letters
        self._dropped = 0.0
        self._ran = 0
        self._longest = len(wish.typed) + _LONGEST_WORD

    def after(self, node: Node) -> Found:
        """The most probable words after a position."""
        self._expand(_Path(node, 1.0, rest=self._wish.typed))
        limit = min(_MOST_PATHS + _PATHS_PER_WORD * self._wish.count, _LIMIT)
        while self._ran < limit and (paths := self._next_paths()):
            nodes = self._runner.run([path.node for path, _ in paths], [token for _, token in paths])
            self._ran += len(paths)
            for (path, _), run in zip(paths, nodes, strict=True):
                self._expand(path._replace(node=run))
        return self._found()

    def _found(self) -> Found:
        best = heapq.nsmallest(self._wish.count, ((-chance, *word) for word, chance in self._words.items()))
        exact = not self._waiting and max(self._next_chance(), self._dropped) <= self._last
        exact = exact and not self._is_total_unsure()
        total = self._total or 1.0
        words = [FoundWord(data, start, min(-chance / total, 1.0)) for chance, data, start in best]
        return Found(words, exact, self._ran)

    def _next_chance(self) -> float:
        return -self._open[0][0] if self._open else 0.0

    def _next_paths(self) -> list[tuple[_Path, int]]:
        """Paths to run: with the node before their last token, and that token. Paths that have run are expanded."""
        while len(self._waiting) < ROWS and (found := self._next_path()) is not None:
            before, token = found
            known = before.node.children.get(token)
            if known is None:
                self._waiting.append((before, token))
            else:
                self._expand(before._replace(node=known))
        paths, self._waiting = self._waiting, []
        return paths

    def _next_path(self) -> tuple[_Path, int] | None:
        if self._parts and self._is_needed():
            _, _, path, token = heapq.heappop(self._parts)
            return path, token
        while self._next_chance() > self._last:
            tokens = self._open[0][2]
            if isinstance(tokens, _Path):
                heapq.heappop(self._open)
                return tokens, tokens.token
            taken = tokens.take()
            self._reorder(tokens)
            if taken is not None and (longer := self._path(tokens, *taken)) is not None:
                return longer, taken[0]
        return None

    def _is_needed(self) -> bool:
        return -self._parts[0][0] > self._last or self._is_total_unsure()

    def _is_total_unsure(self) -> bool:
        """Whether the paths that have not run may hold too much of the probability of the typed letters."""
        return sum(-chance for chance, *_ in self._parts) > _UNSURE * self._total

    def _reorder(self, tokens: _Tokens) -> None:
        """Put the first of the open ones back at its next token's place."""
        chance = tokens.chance
        if chance > self._last:
            heapq.heapreplace(self._open, (-chance, self._next_serial(), tokens))
        else:
            heapq.heappop(self._open)

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial

    def _path(self, tokens: _Tokens, token: int, chance: float) -> _Path | None:
        """The path with one more token; None if the rule does not write it so, or it is too long."""
        path, kind = tokens.path, tokens.kinds[token]
        if tokens.joins and path.token >= 0 and not self._table.follows(path.token, token):
            if not (path.kind == Kind.LETTERS and token == self._table.apostrophe and path.rest):
                return None
            kind = Kind.MARKS
        text = path.text + self._table.data[token]
        if len(text) > self._longest:
            self._dropped = max(self._dropped, chance)
            return None
        return _Path(path.node, chance, text, b"", kind, token, tokens.start)

    def _push(self, path: _Path, kinds: bytes, start: int, joins: bool) -> None:
        if path.probability <= self._last:
            return
        tokens = _Tokens(self._table, path, kinds, start, joins)
        if (chance := tokens.chance) > self._last:
            heapq.heappush(self._open, (-chance, self._next_serial(), tokens))

    def _expand(self, path: _Path) -> None:
        """Find the word that ends at the node of a path, and open the paths that go on."""
        if path.rest:
            self._expand_typed(path)
        elif not path.text:
            self._push(path, self._table.begins[self._wish.before], 0, False)
        elif path.kind == Kind.APOSTROPHE:
            self._expand_apostrophe(path)
        else:
            self._expand_word(path)

    def _expand_typed(self, path: _Path) -> None:
        """Go on with the tokens that hold the rest of the typed letters, or some of it."""
        table, rest, node = self._table, path.rest, path.node
        self._total += path.probability * node.sum(rest, lambda: table.covering(rest))
        kinds, joins = (table.moves[path.kind], True) if path.text else (table.firsts, False)
        self._push(path, kinds, 0, joins)
        if path.kind == Kind.LETTERS and path.text:  # the apostrophe that was typed may be a mark
            self._push(path, table.quotes, len(path.text), False)
        for token in table.within(rest):
            kind, chance = kinds[token], path.probability * float(node.probabilities[token])
            if kind and chance > 0 and not (joins and not table.follows(path.token, token)):
                size = len(table.data[token])
                longer = _Path(node, chance, path.text + rest[:size], rest[size:], kind, token)
                heapq.heappush(self._parts, (-chance, self._next_serial(), longer, token))

    def _expand_word(self, path: _Path) -> None:
        table, kind, node = self._table, path.kind, path.node
        self._push(path, table.moves[kind] if kind != Kind.LETTERS else table.letters_only, path.start, True)
        if kind == Kind.SPACE:
            return
        has_mark = kind == Kind.LETTERS and not table.follows(path.token, table.apostrophe)
        has_tail = kind == Kind.LETTERS and not has_mark
        if self._wish.beyond and path.text == self._wish.typed:
            self._push(path, table.begins[kind], len(path.text), False)
            if has_mark:
                self._push(path, table.only_apostrophe, len(path.text), False)
            if has_tail:
                self._push_apostrophe(path, 0.0)
            return
        ends = node.sum(kind, lambda: table.ends[kind])
        if has_mark:
            ends += float(node.probabilities[table.apostrophe])
        self._find(path.text, path.start, path.probability * ends)
        if has_tail:
            self._push_apostrophe(path, path.probability * ends)

    def _push_apostrophe(self, path: _Path, word: float) -> None:
        """Open the path with an apostrophe after letters; it runs before `word`, their probability, is relied on."""
        token = self._table.apostrophe
        chance = path.probability * float(path.node.probabilities[token])
        longer = _Path(path.node, chance, path.text + b"'", b"", Kind.APOSTROPHE, token, path.start)
        urgency = word + chance if chance > _UNSURE / 2 * word else chance
        if urgency > self._last and len(longer.text) <= self._longest:
            heapq.heappush(self._open, (-urgency, self._next_serial(), longer))

    def _expand_apostrophe(self, path: _Path) -> None:
        """Letters and an apostrophe: it belongs to the word if letters follow, else the word ended before it."""
        table, typed, word = self._table, self._wish.typed, path.text[:-1]
        self._push(path, table.moves[Kind.TAIL], path.start, True)
        is_mark = self._wish.beyond and path.start == 0 and typed in (word, path.text)
        if is_mark:
            self._push(path, table.moves[Kind.MARKS], len(word), True)
        if is_mark and path.text == typed:
            self._push(path, table.begins[Kind.APOSTROPHE], len(typed), False)
        elif is_mark:  # the apostrophe is the next word
            ends = path.node.sum("mark", lambda: table.ends_of_apostrophe)
            self._find(path.text, len(word), path.probability * ends)
        elif path.text != typed:
            ends = path.node.sum(Kind.APOSTROPHE, lambda: table.ends[Kind.APOSTROPHE])
            self._find(word, path.start, path.probability * ends)

    def _find(self, text: bytes, start: int, chance: float) -> None:
        """Count a word, if it is text, all that was typed is in it, and it is not hidden."""
        data = text[start:].removeprefix(b" ")
        word = decoded(data)
        if word is None or not text.startswith(self._wish.typed) or self._wish.hidden(word):
            return
        key = (text, start) if self._wish.with_spaces or self._wish.typed else (data, 0)
        self._words[key] = self._words.get(key, 0.0) + chance
        if len(self._words) >= self._wish.count and chance > self._last:
            self._last = heapq.nlargest(self._wish.count, self._words.values())[-1]

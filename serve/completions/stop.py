"""The tokens of a choice, and which of them may be sent while a stop string may still be growing."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from .logprobs import Scored


@final
class StopFilter:
    """Lets text through as soon as no stop can begin in it any more.

    The text ends before the stop that is complete first; of several that are complete at the same character, before
    the longest. What comes through does not depend on how the text was cut.

    Example:
        >>> from lmtool.serve.completions.stop import StopFilter
        >>> stops = StopFilter(["the end"])
        >>> [stops.push(piece) for piece in ("this is the", " end", " of it")]
        ['this is ', '', '']
        >>> stops.stopped
        True
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Wait for these; an empty one is never found."""
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False
        """Whether a stop was found."""

    def push(self, piece: str) -> str:
        """The text that is sure now, after this piece has come too. Nothing comes through after a stop."""
        if self.stopped:
            return ""
        self._held += piece
        found = [(start + len(stop), start) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            return self._release(min(found)[1])
        return self._release(len(self._held) - self._possible_start())

    def finish(self) -> str:
        """The rest of a text that ended by itself; nothing after a stop."""
        return "" if self.stopped else self._release(len(self._held))

    def _possible_start(self) -> int:
        """How many characters at the end may be the beginning of a stop."""
        longest = max(map(len, self._stops), default=0) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            end = self._held[len(self._held) - length :]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0

    def _release(self, length: int) -> str:
        released, self._held = self._held[:length], self._held[length:]
        return released


@final
@dataclass(frozen=True)
class Token:
    """A token of an answer.

    Attributes:
        text: What it adds to the text.
        offset: Where that begins, in characters of the choice's text.
        token_id: Its id.
        previous: The id of the token before it; None where it begins the text.
        scored: What the model made of it; None where nobody asked, or where the text begins with it.
    """

    text: str
    offset: int
    token_id: int
    previous: int | None
    scored: Scored | None = None

    @property
    def end(self) -> int:
        """Where its text ends."""
        return self.offset + len(self.text)


@final
class HeldTokens:
    """Holds tokens back until it is sure that their text is before every stop string.

    The last token before a stop may be cut: its text is then the part before the stop.
    """

    def __init__(self, stops: list[str], offset: int) -> None:
        """Begin a text at `offset`."""
        self._filter = StopFilter(stops)
        self._held: deque[Token] = deque()
        self._sure = offset

    @property
    def stopped(self) -> bool:
        """Whether a stop was found."""
        return self._filter.stopped

    @property
    def kept_end(self) -> int:
        """Where the text ends that is sure."""
        return self._sure

    def push(self, token: Token) -> list[Token]:
        """The tokens that are sure now, after this one has come too."""
        self._held.append(token)
        self._sure += len(self._filter.push(token.text))
        return self._release()

    def finish(self) -> list[Token]:
        """The rest of a text that has ended."""
        self._sure += len(self._filter.finish())
        return self._release()

    def _release(self) -> list[Token]:
        released = []
        while self._held and self._held[0].end <= self._sure:
            released.append(self._held.popleft())
        if self.stopped and self._held and self._held[0].offset < self._sure:
            cut = self._held.popleft()
            released.append(replace(cut, text=cut.text[: self._sure - cut.offset]))
        return released

"""Stops: texts before which a written text ends. Text is held back while it may still become part of one."""

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar, final

_Place = TypeVar("_Place")


@final
class StopMatcher:
    """Releases text as soon as no stop can begin in it.

    The text ends before the first stop that is complete; of several that are complete at the same character, before the
    longest. The result does not depend on how the text is cut into pieces.

    Attributes:
        stopped: Whether a stop is complete.
        end: Number of characters that were added.
        sure_end: Number of characters that were released.

    Example:
        >>> from lmtool.runtime.text.stops import StopMatcher
        >>> stops = StopMatcher(["the end"])
        >>> [stops.push(piece) for piece in ("this is the", " end", " of it")]
        ['this is ', '', '']
        >>> stops.stopped
        True
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Empty stops are ignored."""
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False
        self.end = self.sure_end = 0

    def push(self, piece: str) -> str:
        """Add a piece of text; returns the text that is released. After a stop nothing is."""
        if self.stopped:
            return ""
        self._held += piece
        self.end += len(piece)
        matches = [(start + len(stop), start) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if matches:
            self.stopped = True
            return self._release(min(matches)[1])
        return self._release(len(self._held) - self._partial_match())

    def finish(self) -> str:
        """End the text; returns the rest of it, nothing after a stop."""
        return "" if self.stopped else self._release(len(self._held))

    def _partial_match(self) -> int:
        """The number of characters at the end that may begin a stop."""
        longest = max(map(len, self._stops), default=0) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            end = self._held[len(self._held) - length :]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0

    def _release(self, length: int) -> str:
        released, self._held = self._held[:length], self._held[length:]
        self.sure_end += length
        return released


@final
class Rollback(Generic[_Place]):
    """The places after a text's latest tokens, back to the last token that no stop can cut off."""

    def __init__(self, place: _Place, end: int = 0) -> None:
        """Start at a place, where the text ends at `end`."""
        self._places = deque([(end, place)])

    @property
    def place(self) -> _Place:
        """The place after the last token that is sure to be kept."""
        return self._places[0][1]

    def add(self, place: _Place, end: int, sure_end: int, *, within_character: bool) -> None:
        """Add the place after one more token.

        Args:
            place: After this token.
            end: Where its text ends.
            sure_end: End of the text that no stop can cut off.
            within_character: Whether the token ends within a character, which a stop can cut off.
        """
        self._places.append((end + within_character, place))
        while len(self._places) > 1 and self._places[1][0] <= sure_end:
            self._places.popleft()

    def finish(self) -> None:
        """Keep all tokens, at the end of a text without a stop."""
        while len(self._places) > 1:
            self._places.popleft()


@final
class StoppedText(Generic[_Place]):
    """A text that ends before a stop, with the place to go on from after that.

    This is the place after the last token whose text was released in full: a token that a stop cuts is not part of the
    text that goes on, and those of the stop are not.
    """

    def __init__(self, stops: Sequence[str], place: _Place) -> None:
        """Start at a place."""
        self._matcher = StopMatcher(stops)
        self._rollback = Rollback(place)

    @property
    def stopped(self) -> bool:
        """Whether a stop is complete."""
        return self._matcher.stopped

    @property
    def place(self) -> _Place:
        """Where the text that was released goes on."""
        return self._rollback.place

    def push(self, piece: str, place: _Place, *, within_character: bool, is_last: bool) -> str:
        """Add the text of a token, and the place after it; returns the text that is released.

        Args:
            piece: The text that the token adds.
            place: The place after it.
            within_character: Whether it ends within a character.
            is_last: Whether no token follows, so that all of the text is released.
        """
        released = self._matcher.push(piece)
        self._rollback.add(place, self._matcher.end, self._matcher.sure_end, within_character=within_character)
        if is_last and not self.stopped:
            released += self._matcher.finish()
            self._rollback.finish()
        return released

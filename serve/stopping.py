"""Stop strings: text ends before the first of them, however it is cut into pieces."""

from collections.abc import Sequence
from typing import final


@final
class StopFilter:
    """Lets text through as soon as no stop can begin in it any more.

    The text ends before the stop that is complete first; of several that are complete at the same character, before
    the longest. What comes through does not depend on how the text was cut.

    Example:
        >>> from lmtool.serve.stopping import StopFilter
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

"""Stop strings: text and tokens are held back while they may still become part of one."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from ...runtime.text.text_decoder import TextDecoder
from .logprobs import TokenLogprobs


@final
@dataclass(frozen=True)
class Token:
    """A token of a completion.

    Attributes:
        text: Its piece of the text.
        offset: Start of that piece, in characters of the choice's text.
        token_id: Its id.
        before: The decoder before it, with which other tokens at its place have their texts; None without a score.
        logprobs: Its score; None if not requested, or at the start of a text.
    """

    text: str
    offset: int
    token_id: int
    before: TextDecoder | None = None
    logprobs: TokenLogprobs | None = None

    @property
    def end(self) -> int:
        """End of its text."""
        return self.offset + len(self.text)


@final
class StopMatcher:
    """Releases text as soon as no stop string can begin in it.

    The text ends before the first stop string that is complete; of several that are complete at the same character,
    before the longest. The result does not depend on how the text is cut into pieces.

    Example:
        >>> from lmtool.serve.completions.stop import StopMatcher
        >>> stops = StopMatcher(["the end"])
        >>> [stops.push(piece) for piece in ("this is the", " end", " of it")]
        ['this is ', '', '']
        >>> stops.stopped
        True
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Empty stop strings are ignored."""
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False
        """Whether a stop string is complete."""

    def push(self, piece: str) -> str:
        """Add a piece of text; returns the text that is released. After a stop nothing is."""
        if self.stopped:
            return ""
        self._held += piece
        matches = [(start + len(stop), start) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if matches:
            self.stopped = True
            return self._release(min(matches)[1])
        return self._release(len(self._held) - self._partial_match())

    def finish(self) -> str:
        """End the text; returns the rest of it, nothing after a stop."""
        return "" if self.stopped else self._release(len(self._held))

    def _partial_match(self) -> int:
        """The number of characters at the end that may begin a stop string."""
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
class StopBuffer:
    """Releases tokens once no stop string can cut off their text.

    The last token before a stop may be cut: its text is then the part before the stop.
    """

    def __init__(self, stops: list[str], offset: int) -> None:
        """`offset`: start of the text."""
        self._matcher = StopMatcher(stops)
        self._held: deque[Token] = deque()
        self.sure_end = offset
        """End of the text that no stop string can cut off."""

    @property
    def stopped(self) -> bool:
        """Whether a stop string is complete."""
        return self._matcher.stopped

    def push(self, token: Token) -> list[Token]:
        """Add a token; returns the tokens that are released."""
        self._held.append(token)
        return self._release(self._matcher.push(token.text))

    def finish(self) -> list[Token]:
        """End the text; returns the rest of its tokens."""
        return self._release(self._matcher.finish())

    def _release(self, text: str) -> list[Token]:
        self.sure_end += len(text)
        released = []
        while self._held and self._held[0].end <= self.sure_end:
            released.append(self._held.popleft())
        if self.stopped and self._held and self._held[0].offset < self.sure_end:
            cut = self._held.popleft()
            released.append(replace(cut, text=cut.text[: self.sure_end - cut.offset]))
        return released

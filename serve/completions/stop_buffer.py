"""StopBuffer: tokens are held back while their text may still become part of a stop string."""

from collections import deque
from dataclasses import dataclass, replace
from typing import final

from ...runtime.text.stops import StopMatcher
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
class StopBuffer:
    """Releases tokens once no stop string can cut off their text.

    The last token before a stop may be cut: its text is then the part before the stop.
    """

    def __init__(self, stops: list[str], offset: int) -> None:
        """`offset`: start of the text."""
        self._matcher = StopMatcher(stops)
        self._held: deque[Token] = deque()
        self._offset = offset

    @property
    def sure_end(self) -> int:
        """End of the text that no stop string can cut off."""
        return self._offset + self._matcher.sure_end

    @property
    def stopped(self) -> bool:
        """Whether a stop string is complete."""
        return self._matcher.stopped

    def push(self, token: Token) -> list[Token]:
        """Add a token; returns the tokens that are released."""
        self._held.append(token)
        self._matcher.push(token.text)
        return self._release()

    def finish(self) -> list[Token]:
        """End the text; returns the rest of its tokens."""
        self._matcher.finish()
        return self._release()

    def _release(self) -> list[Token]:
        released = []
        while self._held and self._held[0].end <= self.sure_end:
            released.append(self._held.popleft())
        if self.stopped and self._held and self._held[0].offset < self.sure_end:
            cut = self._held.popleft()
            released.append(replace(cut, text=cut.text[: self.sure_end - cut.offset]))
        return released

"""The tokens of a choice, and which of them may be sent while a stop string may still be growing."""

from collections import deque
from dataclasses import dataclass, replace
from typing import final

from .scoring import Scored
from .stopping import StopFilter


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

"""Where a session may have to go on: after the last token whose text was sent, which may not be the last one drawn."""

from dataclasses import replace
from typing import final

from .sessions import Snapshot


@final
class Trail:
    """Snapshots at the latest tokens of a text, as far back as some of them may still be cut off by a stop string."""

    def __init__(self, start: Snapshot, offset: int) -> None:
        """Begin with the snapshot at the prompt's last token, whose text ends at `offset`."""
        self._steps = [(offset, start)]
        self._kept_end = offset
        self._tokens = start.tokens

    @property
    def last(self) -> Snapshot:
        """The snapshot at the last token that is kept."""
        return [snapshot for end, snapshot in self._steps if end <= self._kept_end][-1]

    def add(self, snapshot: Snapshot, end: int, kept_end: int) -> None:
        """Go on by one token.

        Args:
            snapshot: At this token; its number of tokens is counted here.
            end: Where the token's text ends.
            kept_end: Where the text ends that is sure to be kept.
        """
        self._tokens += 1
        self._steps.append((end, replace(snapshot, tokens=self._tokens)))
        self._kept_end = kept_end
        while len(self._steps) > 1 and self._steps[1][0] <= kept_end:
            self._steps.pop(0)

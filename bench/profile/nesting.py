"""Self times of events that begin and end as calls of functions do."""

from dataclasses import dataclass
from typing import final


@final
@dataclass
class _Open:
    """An event that has not ended: its begin, and the time and number of the events directly inside it."""

    began: float
    inside: float = 0.0
    nested: int = 0


@final
class Nesting:
    """The events that are open, the innermost last."""

    def __init__(self) -> None:
        self._open: list[_Open] = []

    def begin(self, now: float) -> None:
        """An event begins."""
        self._open.append(_Open(now))

    def end(self, now: float) -> tuple[float, int]:
        """The innermost event ends: its time without the events inside it, and the number of those directly inside."""
        event = self._open.pop()
        duration = now - event.began
        if self._open:
            self._open[-1].inside += duration
            self._open[-1].nested += 1
        return duration - event.inside, event.nested

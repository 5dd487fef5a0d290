"""Tokens per second: recent, and since the last lap."""

import collections
import time
from typing import final

_AVERAGED_STEPS = 50


@final
class Speedometer:
    """Counts tokens against the clock."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.start()

    def start(self) -> None:
        """Begin again, here and now."""
        self._tokens = 0
        self._lap = (time.monotonic(), 0)
        self._recent: collections.deque[tuple[float, int]] = collections.deque([self._lap], maxlen=_AVERAGED_STEPS)

    def add(self, tokens: int) -> None:
        """So many more tokens are done."""
        self._tokens += tokens
        self._recent.append((time.monotonic(), self._tokens))

    def recent(self) -> float:
        """Over the last steps."""
        (began, first), (ended, last) = self._recent[0], self._recent[-1]
        return (last - first) / max(ended - began, 1e-9)

    def lap(self) -> float:
        """Since the last lap, or since the start; begins the next one."""
        now, (began, first) = time.monotonic(), self._lap
        self._lap = (now, self._tokens)
        return (self._tokens - first) / max(now - began, 1e-9)

"""The clock of what is measured in node: the time that sessions there have taken, by node's own clock."""

import threading
from typing import final


@final
class NodeClock:
    """Seconds that loading and calls of this process's node sessions have taken so far.

    It is what an application in node would have waited, from its typed arrays to those of the results: without the
    pipe, without what Python does before and after, and without starting node. It also advances by a nanosecond at each
    look, because pytest-benchmark measures a clock's resolution and would find none.
    """

    def __init__(self) -> None:
        """Begin at zero."""
        self._nanoseconds = 0
        self._one_at_a_time = threading.Lock()

    def add(self, nanoseconds: int) -> None:
        """Something took so long."""
        with self._one_at_a_time:
            self._nanoseconds += nanoseconds

    def __call__(self) -> float:
        """The seconds."""
        self.add(1)
        return self._nanoseconds / 1e9


NODE_CLOCK = NodeClock()
"""Of all sessions."""

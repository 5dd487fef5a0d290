"""Engines: that of the served model, and those of replaced models until their last request has ended."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from typing import final

from .engine import Engine


@final
class Engines:
    """The engines in memory. A request leases the current one and keeps it to its end, whatever replaces it.

    Attributes:
        current: The engine of new requests.
    """

    def __init__(self, engine: Engine) -> None:
        self.current = engine
        self._leases = {engine: 0}
        self._closed: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Engine]:
        return iter(self._leases)

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def totals(self) -> Counter[str]:
        """The sum of `Engine.totals`, those of closed engines included."""
        return sum((engine.totals for engine in self), start=self._closed)

    @contextlib.contextmanager
    def lease(self) -> Iterator[Engine]:
        """The current engine, which stays open within the `with` block."""
        engine = self.current
        self._leases[engine] += 1
        try:
            yield engine
        finally:
            self._leases[engine] -= 1
            self._close_unused(engine)

    def replace(self, engine: Engine) -> None:
        """Make this engine the current one; the previous one is closed when its last lease ends."""
        self._leases[engine] = 0
        previous, self.current = self.current, engine
        self._close_unused(previous)

    def close(self) -> None:
        """Close all engines; their requests fail."""
        for engine in self:
            engine.pool.close(cancel_waiting=True)

    def _close_unused(self, engine: Engine) -> None:
        """Close a replaced engine without leases, in a thread: a call that nobody waits for may still run."""
        if engine is self.current or self._leases[engine]:
            return
        del self._leases[engine]
        self._closed += engine.totals
        threading.Thread(target=engine.pool.close, name="lmtool-close").start()

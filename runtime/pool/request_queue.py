"""Requests that wait for a call of the session, and which of them run together.

Only requests of as many tokens, which keep as many logits, run together: the artifact knows no lengths, so a shorter
one would have to be padded in time, and padding in time changes a state.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..errors import BusyError
from .options import PoolOptions


@final
class Request(Future[NDArray[np.float32]]):
    """What one stream wants to read; a future of its logits, float32 [kept, vocabulary].

    Attributes:
        slot: Where the stream's state is.
        token_ids: int64 [tokens].
        kept: The number of positions, from the last, whose logits are wanted.
        since: When it was made, in `time.monotonic` seconds.
        deadline: When it must have begun to run.
    """

    def __init__(
        self,
        slot: int,
        token_ids: NDArray[np.int64],
        kept: int,
        since: float,
        deadline: float,
        on_cancel: Callable[["Request"], None],
    ) -> None:
        """`on_cancel` is called when the request was cancelled, once or more often."""
        super().__init__()
        self.slot = slot
        self.token_ids = token_ids
        self.kept = kept
        self.since = since
        self.deadline = deadline
        self._on_cancel = on_cancel

    def cancel(self) -> bool:
        """Take the request back unless it runs already; whether that succeeded."""
        cancelled = super().cancel()
        if cancelled:
            self._on_cancel(self)
        return cancelled


_Group = OrderedDict[Request, None]


@final
class Waiting:
    """The bounded queue. Not thread-safe: the owner holds a lock."""

    def __init__(self, options: PoolOptions) -> None:
        """An empty queue with these bounds."""
        self._options = options
        self._groups: dict[tuple[int, int], _Group] = {}
        self._count = 0
        self._first_deadline = math.inf

    def __len__(self) -> int:
        """How many requests wait."""
        return self._count

    def add(self, request: Request) -> None:
        """Append a request.

        Raises:
            BusyError: As many wait as may.
        """
        if self._count >= self._options.max_waiting:
            raise BusyError(
                f"{self._count:,} requests wait, as many as may; nothing was changed, "
                "try again later or raise max_waiting"
            )
        self._groups.setdefault(_kind(request), OrderedDict())[request] = None
        self._count += 1
        self._first_deadline = min(self._first_deadline, request.deadline)

    def remove(self, request: Request) -> bool:
        """Take one request out; whether it was there."""
        group = self._groups.get(_kind(request), OrderedDict())
        if request not in group:
            return False
        del group[request]
        self._count -= 1
        if not group:
            del self._groups[_kind(request)]
        return True

    def take_all(self) -> list[Request]:
        """Take every request out."""
        return self._take(self._all())

    def take_expired(self, now: float) -> list[Request]:
        """Take the requests out whose deadlines have passed."""
        if now < self._first_deadline:
            return []
        expired = self._take(request for request in self._all() if request.deadline <= now)
        self._first_deadline = min((request.deadline for request in self._all()), default=math.inf)
        return expired

    def take_batch(self, now: float, linger_seconds: float) -> list[Request]:
        """Take the requests out that run next, oldest first; none while all that wait may wait on.

        A group is due when it fills a call or its oldest request has lingered long enough; of those that are due the
        one with the oldest request is chosen, so that nobody waits for ever.
        """
        due = [kind for kind, group in self._groups.items() if self._is_due(kind, group, now - linger_seconds)]
        if not due:
            return []
        kind = min(due, key=lambda kind: _oldest(self._groups[kind]).since)
        group = self._groups[kind]
        count = min(len(group), self._options.together(kind[0]))
        return self._take(request for request, _ in zip(group, range(count), strict=False))

    def seconds_to_wait(self, now: float) -> float | None:
        """How long nothing is due or expires unless another request comes; None for ever."""
        if not self._count:
            return None
        oldest = min(_oldest(group).since for group in self._groups.values())
        return max(min(oldest + self._options.linger_seconds, self._first_deadline) - now, 0)

    def _is_due(self, kind: tuple[int, int], group: _Group, lingered: float) -> bool:
        return _oldest(group).since <= lingered or len(group) >= self._options.together(kind[0])

    def _all(self) -> Iterable[Request]:
        return (request for group in self._groups.values() for request in group)

    def _take(self, requests: Iterable[Request]) -> list[Request]:
        taken = list(requests)
        for request in taken:
            self.remove(request)
        return taken


def _kind(request: Request) -> tuple[int, int]:
    return len(request.token_ids), request.kept


def _oldest(group: _Group) -> Request:
    return next(iter(group))

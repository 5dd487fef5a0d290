"""Requests of a stream pool, and the queue that decides which of them run together.

Only requests with the same number of tokens and of kept logits share a call: the artifact takes no lengths, so a
shorter one would have to be padded in time, and that changes its state.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..errors import BusyError
from .generation import Generation
from .options import PoolOptions


@final
class Request(Future[NDArray[np.float32]]):
    """Tokens that one stream reads; a future of the logits, float32 [kept, vocabulary].

    Attributes:
        slot: Row of the stream's state.
        token_ids: One or more token ids.
        kept: Compute logits for this number of last positions.
        enqueued_at: `time.monotonic` seconds.
        deadline: The request expires if it does not run by then.
    """

    is_job = False
    draws = False

    def __init__(
        self,
        slot: int,
        token_ids: Sequence[int],
        kept: int,
        enqueued_at: float,
        deadline: float,
        on_cancel: Callable[["Request"], None],
    ) -> None:
        """`on_cancel` may be called more than once."""
        super().__init__()
        self.slot = slot
        self.token_ids = token_ids
        self.kept = kept
        self.enqueued_at = enqueued_at
        self.deadline = deadline
        self._on_cancel = on_cancel

    def cancel(self) -> bool:
        """Withdraw the request; False if it runs or has run."""
        cancelled = super().cancel()
        if cancelled:
            self._on_cancel(self)
        return cancelled


_Shape = tuple[int, int]
"""Tokens and kept logits: requests of the same shape share a call."""
Entry = Request | Generation
_Group = OrderedDict[Entry, None]


@final
class RequestQueue:
    """A bounded queue, grouped by shape. Not thread-safe: the owner holds a lock.

    A generation has a place from `add` to `leave`, also while its call runs; a request while it waits.

    Attributes:
        waiting: Requests in the queue, those of generations not counted.
        generations: Generations that have a place.
    """

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._groups: dict[_Shape, _Group] = {}
        self._first_deadline = math.inf
        self.waiting = 0
        self.generations = 0

    def require_place(self) -> None:
        """Raise BusyError if the queue is full."""
        count = self.waiting + self.generations
        if count >= self._options.max_waiting:
            raise BusyError(
                f"{count:,} requests wait, which is the limit; nothing was changed, "
                "try again later or raise max_waiting"
            )

    def add(self, entry: Entry) -> None:
        """Append a request or a new generation.

        Raises:
            BusyError: The queue is full.
        """
        self.require_place()
        if entry.is_job:
            self.generations += 1
        else:
            self.waiting += 1
        self._first_deadline = min(self._first_deadline, entry.deadline)
        self._append(entry)

    def put_back(self, generations: Iterable[Generation], now: float) -> None:
        """Append generations whose call has run."""
        for generation in generations:
            generation.enqueued_at = now
            self._append(generation)

    def leave(self) -> None:
        """Free the place of a generation that has ended."""
        self.generations -= 1

    def remove(self, entry: Entry) -> bool:
        """Remove an entry, which leaves a generation its place; False if it is not in the queue."""
        shape = _shape(entry)
        group = self._groups.get(shape)
        if group is None or entry not in group:
            return False
        del group[entry]
        self.waiting -= not entry.is_job
        if not group:
            del self._groups[shape]
        return True

    def take_all(self) -> list[Entry]:
        """Remove and return every entry."""
        return self._pop(list(self._all()))

    def take_expired(self, now: float) -> list[Entry]:
        """Remove and return the entries whose deadlines have passed."""
        if now < self._first_deadline:
            return []
        expired = self._pop([entry for entry in self._all() if entry.deadline <= now])
        self._first_deadline = min((entry.deadline for entry in self._all()), default=math.inf)
        return expired

    def take_batch(self, now: float, linger_seconds: float) -> list[Entry]:
        """Remove and return the entries that run next, oldest first; none if none is due.

        A group is due when it fills a call, its oldest request has waited `linger_seconds`, or it has a generation. Of
        the groups that are due, the one with the oldest request runs, so that no request starves.
        """
        due = [shape for shape, group in self._groups.items() if self._is_due(shape, group, now - linger_seconds)]
        if not due:
            return []
        shape = min(due, key=lambda shape: _oldest(self._groups[shape]).enqueued_at)
        group = self._groups[shape]
        count = self._options.max_requests(shape[0])
        if len(group) <= count:
            batch = list(group)
            del self._groups[shape]
        else:
            batch = [group.popitem(last=False)[0] for _ in range(count)]
        self.waiting -= sum(not entry.is_job for entry in batch)
        return batch

    def seconds_to_wait(self, now: float) -> float | None:
        """Seconds until a request is due or expires; None if the queue is empty."""
        if not self._groups:
            return None
        oldest = min(_oldest(group).enqueued_at for group in self._groups.values())
        return max(min(oldest + self._options.linger_seconds, self._first_deadline) - now, 0)

    def _append(self, entry: Entry) -> None:
        shape = _shape(entry)
        group = self._groups.get(shape)
        if group is None:
            group = self._groups[shape] = OrderedDict()
        group[entry] = None

    def _is_due(self, shape: _Shape, group: _Group, latest: float) -> bool:
        if _oldest(group).enqueued_at <= latest or len(group) >= self._options.max_requests(shape[0]):
            return True
        return any(entry.is_job for entry in group)

    def _all(self) -> Iterable[Entry]:
        return (entry for group in self._groups.values() for entry in group)

    def _pop(self, entries: list[Entry]) -> list[Entry]:
        for entry in entries:
            self.remove(entry)
        return entries


def _shape(entry: Entry) -> _Shape:
    return len(entry.token_ids), entry.kept


def _oldest(group: _Group) -> Entry:
    return next(iter(group))

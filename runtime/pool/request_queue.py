"""Requests of a stream pool, and the queue that decides which of them run together.

Only requests with the same number of tokens and of kept logits share a call: the artifact takes no lengths, so a
shorter one would have to be padded in time, and that changes its state.
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
    """Tokens that one stream reads; a future of the logits, float32 [kept, vocabulary].

    Attributes:
        slot: Row of the stream's state.
        token_ids: int64 [tokens].
        kept: Compute logits for this number of last positions.
        enqueued_at: `time.monotonic` seconds.
        deadline: The request expires if it does not run by then.
    """

    def __init__(
        self,
        slot: int,
        token_ids: NDArray[np.int64],
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
_Group = OrderedDict[Request, None]


@final
class RequestQueue:
    """A bounded queue, grouped by shape. Not thread-safe: the owner holds a lock."""

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._groups: dict[_Shape, _Group] = {}
        self._count = 0
        self._first_deadline = math.inf

    def __len__(self) -> int:
        return self._count

    def add(self, request: Request) -> None:
        """Append a request.

        Raises:
            BusyError: The queue is full.
        """
        if self._count >= self._options.max_waiting:
            raise BusyError(
                f"{self._count:,} requests wait, which is the limit; nothing was changed, "
                "try again later or raise max_waiting"
            )
        self._groups.setdefault(_shape(request), OrderedDict())[request] = None
        self._count += 1
        self._first_deadline = min(self._first_deadline, request.deadline)

    def remove(self, request: Request) -> bool:
        """Remove a request; False if it is not in the queue."""
        group = self._groups.get(_shape(request), OrderedDict())
        if request not in group:
            return False
        del group[request]
        self._count -= 1
        if not group:
            del self._groups[_shape(request)]
        return True

    def take_all(self) -> list[Request]:
        """Remove and return every request."""
        return self._pop(self._all())

    def take_expired(self, now: float) -> list[Request]:
        """Remove and return the requests whose deadlines have passed."""
        if now < self._first_deadline:
            return []
        expired = self._pop(request for request in self._all() if request.deadline <= now)
        self._first_deadline = min((request.deadline for request in self._all()), default=math.inf)
        return expired

    def take_batch(self, now: float, linger_seconds: float) -> list[Request]:
        """Remove and return the requests that run next, oldest first; none if none is due.

        A group is due when it fills a call or its oldest request has waited `linger_seconds`. Of the groups that are
        due, the one with the oldest request runs, so that no request starves.
        """
        due = [shape for shape, group in self._groups.items() if self._is_due(shape, group, now - linger_seconds)]
        if not due:
            return []
        shape = min(due, key=lambda shape: _oldest(self._groups[shape]).enqueued_at)
        group = self._groups[shape]
        count = min(len(group), self._options.max_requests(shape[0]))
        return self._pop(request for request, _ in zip(group, range(count), strict=False))

    def seconds_to_wait(self, now: float) -> float | None:
        """Seconds until a request is due or expires; None if the queue is empty."""
        if not self._count:
            return None
        oldest = min(_oldest(group).enqueued_at for group in self._groups.values())
        return max(min(oldest + self._options.linger_seconds, self._first_deadline) - now, 0)

    def _is_due(self, shape: _Shape, group: _Group, latest: float) -> bool:
        return _oldest(group).enqueued_at <= latest or len(group) >= self._options.max_requests(shape[0])

    def _all(self) -> Iterable[Request]:
        return (request for group in self._groups.values() for request in group)

    def _pop(self, requests: Iterable[Request]) -> list[Request]:
        removed = list(requests)
        for request in removed:
            self.remove(request)
        return removed


def _shape(request: Request) -> _Shape:
    return len(request.token_ids), request.kept


def _oldest(group: _Group) -> Request:
    return next(iter(group))

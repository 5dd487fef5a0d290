"""The states of many streams: one array per state tensor, one row per stream."""

from array import array
from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..arrays import freeze
from ..errors import BusyError, PoolError

_SLOT_BITS = 32


@final
class Slots:
    """Rows for up to `capacity` streams.

    The arrays have their full size from the start and never grow; the system gives them memory page by page as rows are
    written. A stream's id holds its row, the slot, and how often that was taken, so the id of a closed stream stays
    invalid when its slot is reused.

    Not thread-safe: the owner holds a lock, except that rows of distinct slots may be read and written concurrently.
    """

    def __init__(self, widths: Sequence[int], capacity: int) -> None:
        """Reserve float32 [capacity + 1, width] for each width, the last row zero; PoolError if it does not fit."""
        self._capacity = capacity
        try:
            self._tensors = tuple(np.zeros((capacity + 1, width), np.float32) for width in widths)
            self._taken = np.zeros(capacity, np.int64)
        except MemoryError as error:
            size = 4 * sum(widths)
            raise PoolError(
                f"the states of {capacity:,} streams, {size:,} bytes each, do not fit into memory; lower max_streams"
            ) from error
        self._unused_from = 0
        self._free = array("q")

    @property
    def padding(self) -> int:
        """The slot for padded rows; its state is always zero."""
        return self._capacity

    @property
    def taken_count(self) -> int:
        """The number of slots that are taken."""
        return self._unused_from - len(self._free)

    @property
    def taken_bytes(self) -> int:
        """Size of the states in the taken slots."""
        return self.taken_count * sum(tensor.shape[1] * tensor.itemsize for tensor in self._tensors)

    @property
    def reserved_bytes(self) -> int:
        """Size of all arrays as address space."""
        return sum(tensor.nbytes for tensor in self._tensors) + self._taken.nbytes

    def take(self) -> int:
        """Take a slot with a zero state and return its stream's id; BusyError if all are taken."""
        if self._free:
            slot = self._free.pop()
            for tensor in self._tensors:
                tensor[slot] = 0
        elif self._unused_from < self._capacity:
            slot = self._unused_from
            self._unused_from += 1
        else:
            raise BusyError(
                f"{self._capacity:,} streams are open, which is the limit; close some, or raise max_streams"
            )
        self._taken[slot] += 1
        return int(self._taken[slot]) << _SLOT_BITS | slot

    def slot_of(self, stream_id: int) -> int:
        """The slot of an open stream; PoolError if no open stream has this id."""
        if isinstance(stream_id, (int, np.integer)) and stream_id >= 0:
            turn, slot = divmod(int(stream_id), 1 << _SLOT_BITS)
            if slot < self._unused_from and self._taken[slot] == turn:
                return slot
        raise PoolError(f"{stream_id!r} is no open stream of this pool, expected an id that open_stream() returned")

    def revoke(self, slot: int) -> None:
        """Invalidate the id of the slot's stream; the slot stays taken until `release`."""
        self._taken[slot] += 1

    def release(self, slot: int) -> None:
        """Free the slot."""
        self._free.append(slot)

    def read(self, slots: NDArray[np.int64]) -> tuple[NDArray[np.float32], ...]:
        """The states in `slots` [n], for each tensor float32 [n, width], read-only copies."""
        return tuple(freeze(tensor.take(slots, 0)) for tensor in self._tensors)

    def write(self, slots: NDArray[np.int64], tensors: Sequence[NDArray[np.float32]]) -> None:
        """Store the states of `slots` [n]: the first n rows of each tensor [n or more, width]."""
        for ours, theirs in zip(self._tensors, tensors, strict=True):
            ours[slots] = theirs[: len(slots)]

    def drop(self) -> None:
        """Free the memory; nothing can be read or written afterwards."""
        self._tensors, self._taken = (), np.zeros(0, np.int64)

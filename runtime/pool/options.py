"""The limits of a stream pool, and the batch sizes that it runs."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import final

from ..arguments import checked_flag, checked_integer, checked_number, freeze_fields
from ..errors import OptionError


@final
@dataclass(frozen=True)
class PoolOptions:
    """The limits of a `StreamPool`.

    Attributes:
        max_streams: Open streams. Their states are reserved as address space; where the system gives memory page by
            page (Linux, macOS) a stream takes memory from its first step on.
        max_waiting: Waiting requests; one more raises `BusyError`.
        max_batch: Streams in one call.
        max_tokens: Tokens in one call, so that a long request does not delay the others for long; a request with more
            is refused.
        linger_seconds: How long a request waits for others to share a call. With 0 it runs as soon as the session is
            free; batches then form while it is busy.
        allow_inexact: Accept an artifact that is not batch-invariant. Results then depend slightly on the other
            streams in a call.
    """

    max_streams: int = 100_000
    max_waiting: int = 1024
    max_batch: int = 64
    max_tokens: int = 512
    linger_seconds: float = 0.0
    allow_inexact: bool = False

    def __post_init__(self) -> None:
        """Raise OptionError for a field outside its range."""
        for name in ("max_streams", "max_waiting", "max_batch", "max_tokens"):
            freeze_fields(self, **{name: checked_integer(name, getattr(self, name))})
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if self.max_streams > 2**32:
            raise OptionError(f"max_streams is {self.max_streams:,}, expected {2**32:,} or fewer")
        if self.max_tokens < self.max_batch:
            raise OptionError(f"max_tokens is {self.max_tokens}, expected max_batch, {self.max_batch}, or more")
        checked_number("linger_seconds", self.linger_seconds)
        checked_flag("allow_inexact", self.allow_inexact)
        if not 0 <= self.linger_seconds < float("inf"):
            raise OptionError(f"linger_seconds is {self.linger_seconds}, expected 0 or a positive number")

    @cached_property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes of calls: four from each power of two to the next, up to `max_batch`.

        Few, because onnxruntime keeps memory for every shape; close together, because a padded row costs as much as
        any other.
        """
        powers = [2**n for n in range(self.max_batch.bit_length())]
        steps = {power + power * quarter // 4 for power in powers for quarter in range(4)}
        return tuple(sorted(size for size in steps | {self.max_batch} if size <= self.max_batch))

    def padded_size(self, count: int) -> int:
        """The batch size for `count` requests: the next of `batch_sizes`."""
        return self.batch_sizes[bisect_left(self.batch_sizes, count)]

    def max_requests(self, tokens: int) -> int:
        """The number of requests of `tokens` tokens that fit one call, padding included."""
        return self.batch_sizes[bisect_right(self.batch_sizes, max(self.max_tokens // tokens, 1)) - 1]

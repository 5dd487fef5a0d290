"""Slots: how many choices the server writes at once, of all requests and models together."""

import contextlib
from collections.abc import Iterator
from typing import final

from .errors import busy


@final
class Slots:
    """A bounded number of choices.

    Attributes:
        count: Choices that may be written at once.
        taken: Choices that are being written.
        refused: Requests that found too few free.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self.refused = 0

    @contextlib.contextmanager
    def take(self, count: int) -> Iterator[None]:
        """Take slots for one request.

        Raises:
            ApiError: Fewer are free: 429.
        """
        if self.taken + count > self.count:
            self.refused += 1
            raise busy(
                f"{self.taken} of {self.count} choices are being written and {count} more are asked for; "
                "try again later"
            )
        self.taken += count
        try:
            yield
        finally:
            self.taken -= count

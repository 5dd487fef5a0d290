"""A scenario: how many streams read how many tokens in one call."""

import re
from dataclasses import dataclass
from typing import final

from ..runtime.errors import OptionError


@final
@dataclass(frozen=True)
class Scenario:
    """One shape of the token ids, [batch, time]."""

    batch_size: int
    time: int

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            OptionError: One is below 1.
        """
        if min(self.batch_size, self.time) < 1:
            raise OptionError(f"the shape {self} has a size below 1")

    @classmethod
    def parse(cls, text: str) -> "Scenario":
        """Read `BATCHxTIME`.

        Raises:
            OptionError: The text has another form.
        """
        match = re.fullmatch(r"(\d+)x(\d+)", text)
        if match is None:
            raise OptionError(f"the shape {text!r} is not of the form BATCHxTIME, 64x1 for example")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        """The form that `parse` reads."""
        return f"{self.batch_size}x{self.time}"

    @property
    def tokens(self) -> int:
        """Tokens read in one call."""
        return self.batch_size * self.time

    @property
    def kind(self) -> str:
        """What the scenario is for, in a word."""
        if self.tokens == 1:
            return "single-stream"
        if self.time == 1:
            return "multi-stream"
        return "chunked" if self.batch_size == 1 else "offline"

    @property
    def name(self) -> str:
        """What the scenario is for, with its sizes."""
        tokens = "one token" if self.time == 1 else f"{self.time} tokens"
        return f"{self.kind}: batch {self.batch_size}, {tokens} a call"

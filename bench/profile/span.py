"""What a profiler reports about some calls: how often each operator ran in them, and for how long."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, final

_Item = TypeVar("_Item")


Key = tuple[str, str]
"""An operator and its kind."""


@final
@dataclass
class Tally:
    """The events of one operator.

    Attributes:
        events: How often it ran.
        seconds: Its time, without that of the operators inside it.
        nested: Events directly inside it: those of the bodies of an If, a Scan or a Loop.
    """

    events: float = 0
    seconds: float = 0.0
    nested: float = 0

    def a_call(self, calls: int) -> "Tally":
        """The same for one of some calls."""
        return Tally(self.events / calls, self.seconds / calls, self.nested / calls)


@final
@dataclass
class Tallies:
    """The operators of some calls, by name and kind."""

    by_operator: dict[Key, Tally] = field(default_factory=dict)

    def add(self, operator: str, kind: str, seconds: float, nested: float = 0, events: float = 1) -> None:
        """Add an event of an operator, or a sum of some."""
        tally = self.by_operator.setdefault((operator, kind), Tally())
        tally.events += events
        tally.seconds += seconds
        tally.nested += nested

    @classmethod
    def sum(cls, parts: Iterable["Tallies"]) -> "Tallies":
        """All events of some tallies."""
        total = cls()
        for part in parts:
            for (operator, kind), tally in part.by_operator.items():
                total.add(operator, kind, tally.seconds, tally.nested, tally.events)
        return total


@final
@dataclass(frozen=True)
class Span:
    """Successive calls under a profiler.

    Attributes:
        seconds: Their time, by this process's clock.
        calls: Their number.
        tallies: The operators that ran in them.
    """

    seconds: float
    calls: int
    tallies: Tallies

    @classmethod
    def fastest(cls, spans: Iterable["Span"]) -> "Span":
        """The sum of the fastest quarter of some spans."""
        kept = fastest_quarter(sorted(spans, key=lambda span: span.seconds / span.calls))
        return cls(
            sum(span.seconds for span in kept),
            sum(span.calls for span in kept),
            Tallies.sum(span.tallies for span in kept),
        )


class Profiler(Protocol):
    """Calls of one scenario under the profiler of a runtime."""

    def block(self) -> AbstractContextManager[object]:
        """The context of successive timed calls."""
        ...

    def call(self) -> object:
        """Make a call, in a block or before all blocks."""
        ...

    def spans(self, seconds: Sequence[float]) -> list[Span]:
        """End the profile and read it.

        Args:
            seconds: Time of each call in a block, in order.

        Raises:
            BenchError: The profile cannot be read.
        """
        ...


def fastest_quarter(ordered: Sequence[_Item]) -> Sequence[_Item]:
    """The first quarter of what is fastest first: other work on the machine lengthens the rest."""
    return ordered[: max(len(ordered) // 4, 1)]

"""Beginnings: what was read for the latest beginnings of a line that is being typed."""

from collections.abc import Iterator
from typing import Generic, TypeVar, final

_KEPT = 64

_Read = TypeVar("_Read")


@final
class Beginnings(Generic[_Read]):
    """Values by token ids: that of no tokens, and those of the latest 63 beginnings of the line."""

    def __init__(self, start: _Read) -> None:
        """`start`: the value of no tokens."""
        self._values: dict[tuple[int, ...], _Read] = {(): start}

    def __iter__(self) -> Iterator[_Read]:
        return iter(self._values.values())

    def longest(self, ids: tuple[int, ...]) -> tuple[int, _Read]:
        """The longest kept beginning of these tokens: its number of tokens, and its value."""
        found = ids
        if ids not in self._values:
            found = max((kept for kept in self._values if ids[: len(kept)] == kept), key=len)
        return len(found), self._values[found]

    def keep(self, ids: tuple[int, ...], value: _Read) -> None:
        """Keep a value as the latest one; the oldest one is dropped, except that of no tokens."""
        self._values.pop(ids, None)
        self._values[ids] = value
        if len(self._values) > _KEPT:
            del self._values[next(kept for kept in self._values if kept)]

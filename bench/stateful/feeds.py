"""The inputs of calls at every size of a benchmark, in one file: each process that measures reads the same numbers."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

Arrays = Mapping[str, NDArray[Any]]
Shape = tuple[int, int]
"""Batch and time of a call, the time in steps."""


@final
@dataclass(frozen=True)
class Feed:
    """The inputs of successive calls of one size.

    Attributes:
        inputs: Name of each input that is no state -> its arrays, [calls, ...].
        states: Name of each state input -> the array that the first call begins with.
    """

    inputs: Arrays
    states: Arrays

    @property
    def calls(self) -> int:
        """The number of calls with different inputs; 1 where there is no input but states."""
        return min((len(array) for array in self.inputs.values()), default=1)

    def endless(self) -> Iterator[dict[str, NDArray[Any]]]:
        """The inputs of one call after the other, again and again."""
        calls = [{name: array[call, ...] for name, array in self.inputs.items()} for call in range(self.calls)]
        return itertools.cycle(calls)


def write_feeds(path: Path, feeds: Mapping[Shape, Feed]) -> None:
    """Write the feeds of all sizes."""
    arrays = {
        _key(shape, kind, name): array.copy(order="C")
        for shape, feed in feeds.items()
        for kind, group in (("inputs", feed.inputs), ("states", feed.states))
        for name, array in group.items()
    }
    save_file(arrays, path)


def read_feed(path: Path, shape: Shape) -> Feed:
    """The feed of one size."""
    groups: dict[str, dict[str, NDArray[Any]]] = {"inputs": {}, "states": {}}
    with safe_open(path, framework="np") as file:
        for key in file.keys():  # noqa: SIM118  # the file is no mapping
            for kind, group in groups.items():
                if key.startswith(prefix := _key(shape, kind, "")):
                    group[key.removeprefix(prefix)] = file.get_tensor(key)
    return Feed(**groups)


def _key(shape: Shape, kind: str, name: str) -> str:
    return f"{shape[0]}x{shape[1]} {kind} {name}"

"""Trial runs of a file at sizes of batch and time, on every runtime that takes it."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray

from .axes import BATCH, TIME
from .feed import random_input
from .runtimes import RUNTIMES, Opener, RefusedError, Run
from .subject import Subject, has_weights_outside

_BATCHES = (2, 1, 3, 4, 8, 5, 16)
_TIME = 6
_TIMES = (_TIME, *(time for time in range(1, 41) if time != _TIME), 50, 64, 100, 128)
_WIDTHS = (8, 16, 32, 40, 64, 80, 128, 160, 256, 320, 400, 480, 512, 576, 640, 768, 1024, 1, 2, 4)

Outputs = dict[str, NDArray[Any]]


@final
@dataclass(frozen=True)
class Sizes:
    """Sizes of a call.

    Attributes:
        batch: Rows.
        time: Steps.
        width: Size of free axes that are neither.
    """

    batch: int
    time: int
    width: int

    def __str__(self) -> str:
        return f"batch {self.batch}, time {self.time}"


@final
class Trials:
    """Runs a copy of the file that declares batch and time as free, so that only the graph itself can refuse a size."""

    def __init__(self, subject: Subject, runtimes: Mapping[str, Opener] = RUNTIMES) -> None:
        self._subject = subject
        self._runtimes = runtimes
        self._model = opened(subject)
        self._results: dict[tuple[Sizes, str], Outputs | RefusedError] = {}

    @cached_property
    def runs(self) -> Mapping[str, Run]:
        """Name of each runtime that takes the file -> its calls; the first one runs the trials."""
        return {name: run for name, (run, _) in self._opened.items() if run is not None}

    @cached_property
    def refusals(self) -> Mapping[str, str]:
        """Name of each runtime that refuses the file -> its message."""
        return {name: message for name, (run, message) in self._opened.items() if run is None}

    @cached_property
    def _opened(self) -> dict[str, tuple[Run | None, str]]:
        found: dict[str, tuple[Run | None, str]] = {}
        for name, start in self._runtimes.items() if not has_weights_outside(self._subject.model) else ():
            try:
                found[name] = start(self._model), ""
            except RefusedError as error:
                found[name] = None, str(error)
        return found

    @cached_property
    def base(self) -> Sizes | None:
        """The first sizes at which the file runs, the declared ones where they are numbers; None without any."""
        return next((sizes for sizes in self._candidates() if self.error(sizes) is None), None)

    @cached_property
    def first(self) -> Sizes:
        """The sizes that are tried first."""
        return next(self._candidates())

    def error(self, sizes: Sizes) -> str | None:
        """Why the file does not run at these sizes; None if it does."""
        try:
            self.outputs(sizes)
        except RefusedError as error:
            return str(error)
        return None

    def at_other_sizes(self, role: str) -> Iterator[Sizes]:
        """The base sizes with another batch or time."""
        assert self.base is not None
        others = (1, 2, 3, 5) if role == BATCH else (1, 3, 7, 9)
        return (replace(self.base, **{role: n}) for n in others if n != getattr(self.base, role))

    def outputs(self, sizes: Sizes, runtime: str | None = None) -> Outputs:
        """All outputs of a call with random inputs and zero states.

        Raises:
            RefusedError: No runtime takes the file, or this one refuses the call.
        """
        name = runtime or next(iter(self.runs), "")
        if not name:
            raise RefusedError("no runtime takes the file")
        if (sizes, name) not in self._results:
            self._results[sizes, name] = self._attempt(self.feed(sizes), name)
        result = self._results[sizes, name]
        if isinstance(result, RefusedError):
            raise result
        return result

    def run(self, feed: Mapping[str, NDArray[Any]]) -> Outputs:
        """All outputs of a call on the first runtime.

        Raises:
            RefusedError: No runtime takes the file, or it refuses the call.
        """
        if not self.runs:
            raise RefusedError("no runtime takes the file")
        return next(iter(self.runs.values()))(feed)

    def feed(self, sizes: Sizes) -> dict[str, NDArray[Any]]:
        """Random inputs and zero states."""
        states = {pair.input for pair in self._subject.pairs}
        return {
            name: np.zeros(shape, self._subject.inputs[name].dtype)
            if name in states
            else random_input(self._subject, name, shape, sizes.time)
            for name, shape in self._shapes(sizes).items()
        }

    def _attempt(self, feed: Mapping[str, NDArray[Any]], runtime: str) -> Outputs | RefusedError:
        try:
            return self.runs[runtime](feed)
        except RefusedError as error:
            return error

    def _shapes(self, sizes: Sizes) -> dict[str, tuple[int, ...]]:
        shapes = {}
        for name, kind in self._subject.inputs.items():
            roles = self._subject.axes.inputs[name]
            chosen = {BATCH: sizes.batch, TIME: sizes.time}
            shapes[name] = tuple(
                chosen.get(role, axis if isinstance(axis, int) else sizes.width)
                for axis, role in zip(kind.shape or (), roles, strict=True)
            )
        return shapes

    def _candidates(self) -> Iterator[Sizes]:
        batches, times = self._ordered(BATCH, _BATCHES), self._ordered(TIME, _TIMES)
        few = [(batches[0], time) for time in times] + [(batch, times[0]) for batch in batches]
        few += itertools.product(batches[:2], times)
        widths = _WIDTHS if self._has_free_axes() else _WIDTHS[:1]
        first = [Sizes(batch, times[0], width) for width in widths for batch in batches[:2]]
        return iter([*first, *(Sizes(*pair, widths[0]) for pair in dict.fromkeys(few))])

    def _ordered(self, role: str, usual: tuple[int, ...]) -> tuple[int, ...]:
        """The sizes to try: the declared one first; one where no input has such an axis."""
        declared = [size for size in declared_sizes(self._subject, role).values() if isinstance(size, int)]
        if not declared_sizes(self._subject, role):
            return (1,)
        return tuple(dict.fromkeys([*declared, *usual]))

    def _has_free_axes(self) -> bool:
        return any(
            isinstance(axis, str) and not role
            for name, kind in self._subject.inputs.items()
            for axis, role in zip(kind.shape or (), self._subject.axes.inputs[name], strict=True)
        )


def declared_sizes(subject: Subject, role: str) -> dict[tuple[str, int], int | str]:
    """Input and place of each axis of a role -> what is declared there: a number, or the name of a free axis."""
    return {
        (name, place): (subject.inputs[name].shape or ())[place]
        for name, roles in subject.axes.inputs.items()
        for place, found in enumerate(roles)
        if found == role
    }


def opened(subject: Subject) -> onnx.ModelProto:
    """A copy of the model that declares batch and time as free."""
    model = onnx.ModelProto()
    model.CopyFrom(subject.model)
    declare_free(model, subject, (BATCH, TIME))
    return model


def declare_free(model: onnx.ModelProto, subject: Subject, roles: Sequence[str]) -> list[str]:
    """Name the axes of these roles in a model, and forget the shapes within; returns what declared a number."""
    del model.graph.value_info[:]
    changed = []
    for value in (*model.graph.input, *model.graph.output):
        found = subject.axes.inputs.get(value.name) or subject.axes.outputs.get(value.name) or ()
        for axis, role in zip(value.type.tensor_type.shape.dim, found, strict=False):
            if role in roles:
                changed += [value.name] if axis.HasField("dim_value") else []
                axis.dim_param = axis.dim_param or role
    return changed

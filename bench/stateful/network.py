"""A stateful network as a benchmark sees it: its states, and the shapes of its inputs at any batch and time."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ...export.doctor.axes import BATCH, OTHER, TIME
from ...export.doctor.feed import random_input
from ...export.doctor.runtimes import RUNTIMES
from ...export.doctor.streams import rounding_tolerance
from ...export.doctor.subject import Subject, read_subject
from ...export.doctor.trials import Trials
from ...runtime.errors import OptionError
from ...runtime.stateful.tensor_check import numpy_type
from ..errors import BenchError
from .feeds import Feed
from .given_input import GivenInput

_MOST_CALLS = 64
_MOST_BYTES = 1 << 22
"""Of the random inputs of one size; they count as memory of the process that measures."""

_MOST_NUMBERS = 1 << 28
"""In one input."""


@final
class StatefulNetwork:
    """A recurrent ONNX file and the sizes that it is called with.

    A step is the least that a call reads of every stream: one place of the time axis, or as many as `--input` says or
    the file needs; the whole call where no axis is the time.

    Attributes:
        path: The file.
        states: State input -> the output that holds it after a call.
        outputs: The other outputs.
        tolerance: Largest difference of an output, relative to its largest magnitude, that rounding explains.
    """

    def __init__(self, path: Path, states: Mapping[str, str] | None, given: Mapping[str, str]) -> None:
        """Read a file.

        Args:
            path: A recurrent ONNX file of any exporter.
            states: State input -> output, where neither the graph nor names tell.
            given: Input -> what `GivenInput.parse` reads.

        Raises:
            StorageError: A file cannot be read.
            ArtifactError: The file is no ONNX file, is damaged, or has nothing recurrent.
            OptionError: `states` or `given` do not fit it.
            BenchError: onnxruntime refuses it, or no sizes were found at which it runs.
        """
        subject = read_subject(path, states)
        _require_numbers(subject)
        for name in given:
            if name not in subject.inputs:
                raise OptionError(f"--input {name}: expected one of the inputs {', '.join(subject.inputs)}")
        self.path = path
        self._options = [f"--state {name}={output}" for name, output in (states or {}).items()]
        self._options += [f"--input {name}={text}" for name, text in given.items()]
        self._given = {name: GivenInput.parse(name, text, subject.inputs[name]) for name, text in given.items()}
        for name, each in self._given.items():
            subject = _with_given_axes(subject, name, each)
        self._subject = subject
        self._roles = subject.axes.inputs
        self.states = {pair.input: pair.output for pair in subject.pairs}
        carried = set(self.states.values())
        self.outputs = [name for name in subject.outputs if name not in carried]
        self.tolerance = rounding_tolerance(subject)
        self._step, self._width = self._tried_sizes()

    def has(self, role: str) -> bool:
        """Whether an axis of an input is the batch or the time."""
        return any(role in self._roles[name] for name in self._subject.data_inputs)

    def fixed(self, role: str) -> int | None:
        """The size at which the file declares the batch or the time; None where it is free, or there is none."""
        declared = (
            axis
            for name, kind in self._subject.inputs.items()
            for axis, found in zip(kind.shape or (), self._roles[name], strict=True)
            if found == role and isinstance(axis, int)
        )
        return next(declared, None)

    def describe(self) -> dict[str, Any]:
        """States, type and shape of each input in the smallest call, and what the user said, ready for JSON.

        `uncarried` lists inputs that are states by their use or name, but get random or given numbers at every call.
        """
        shapes = {name: self._shape(name, self.fixed(BATCH) or 1, 1) for name in self._subject.data_inputs}
        inputs = {name: f"{self._subject.inputs[name].dtype} {list(shape)}" for name, shape in shapes.items()}
        uncarried = self._subject.uncarried
        return {"states": dict(self.states), "uncarried": uncarried, "inputs": inputs, "options": self._options}

    def feed(self, batch: int, time: int) -> Feed:
        """Inputs of successive calls of `batch` streams and `time` steps; random where none are given.

        Raises:
            OptionError: An input would be too large.
        """
        shapes = {name: self._shape(name, batch, time) for name in self._subject.inputs}
        for name, shape in shapes.items():
            if math.prod(shape) > _MOST_NUMBERS:
                found = f"the input {name!r} would be {list(shape)}"
                raise OptionError(f"{found}, expected at most {_MOST_NUMBERS:,} numbers")
        data = self._subject.data_inputs
        size = sum(math.prod(shapes[name]) * np.dtype(self._subject.inputs[name].dtype).itemsize for name in data)
        most = max(_MOST_BYTES // max(size, 1), 2)
        inputs = {name: self._arrays(name, batch, time, most) for name in data if self._is_given(name)}
        calls = min((len(arrays) for arrays in inputs.values()), default=min(most, _MOST_CALLS))
        for name in data:
            if not self._is_given(name):
                inputs[name] = random_input(self._subject, name, (calls, *shapes[name]), time * self._step)
        return Feed(inputs, {name: self._state(name, batch) for name in self.states})

    def _is_given(self, name: str) -> bool:
        """Whether the user gives the numbers of an input."""
        return name in self._given and self._given[name].arrays is not None

    def _arrays(self, name: str, batch: int, time: int, most: int) -> NDArray[Any]:
        """The given arrays of at most `most` calls."""
        arrays, roles = self._given[name].arrays, self._roles[name]
        assert arrays is not None
        if TIME in roles and time > 1:
            arrays = _in_chunks(arrays[: most * time], roles.index(TIME), time)
        arrays = arrays[:most]
        if BATCH not in roles or arrays.shape[roles.index(BATCH) + 1] != 1:
            return arrays
        return arrays.repeat(batch, roles.index(BATCH) + 1)

    def _state(self, name: str, batch: int) -> NDArray[Any]:
        """The state before the first call: zeros where none is given."""
        if self._is_given(name):
            before: NDArray[Any] = self._arrays(name, batch, 1, 1)[0]
            return before
        return np.zeros(self._shape(name, batch, 1), self._subject.inputs[name].dtype)

    def _shape(self, name: str, batch: int, time: int) -> tuple[int, ...]:
        sizes = {BATCH: batch, TIME: time * self._step}
        return tuple(
            sizes[role] if role else axis if isinstance(axis, int) else self._width
            for role, axis in zip(self._roles[name], self._subject.inputs[name].shape or (), strict=True)
        )

    def _tried_sizes(self) -> tuple[int, int]:
        """Places of the time axis in a step, and the size of free axes that are neither batch nor time."""
        step = self._given_step()
        if step is not None and not self._has_open_axis():
            return step, 1
        trials = Trials(self._subject, {name: RUNTIMES[name] for name in ("onnxruntime",)})
        for runtime, message in trials.refusals.items():
            raise BenchError(f"{runtime} refuses {self.path}: {message}; lmtool doctor {self.path} says more")
        if trials.base is None:
            raise BenchError(
                f"{self.path} runs at no size that was tried: {trials.error(trials.first)}; say the sizes of its "
                f"inputs, as --input {next(iter(self._subject.data_inputs), 'NAME')}=1,80"
            )
        if step is None:
            shortest = replace(trials.base, time=1)
            step = 1 if trials.error(shortest) is None else trials.base.time
        return step, trials.base.width

    def _given_step(self) -> int | None:
        """The places of the time axis in a step: as the file or the user says, or 1 without such an axis; else None."""
        if not self.has(TIME):
            return 1
        if (declared := self.fixed(TIME)) is not None:
            return declared
        sizes = [
            axis
            for name, given in self._given.items()
            for axis, role in zip(given.axes, self._roles[name], strict=True)
            if role == TIME and isinstance(axis, int)
        ]
        if len(set(sizes)) > 1:
            raise OptionError(f"--input gives the time as {' and '.join(map(str, sizes))}, expected one size")
        return sizes[0] if sizes else None

    def _has_open_axis(self) -> bool:
        """Whether neither the file, nor a role, nor the user says the size of an axis."""
        return any(
            isinstance(axis, str) and not role
            for name, kind in self._subject.inputs.items()
            for axis, role in zip(kind.shape or (), self._roles[name], strict=True)
        )


def _require_numbers(subject: Subject) -> None:
    """Raise BenchError for an input that takes no numbers."""
    for name, kind in subject.inputs.items():
        if numpy_type(kind.dtype) is None or kind.shape is None:
            raise BenchError(f"the input {name!r} is {kind}, expected numbers with a known number of axes")


def _with_given_axes(subject: Subject, name: str, given: GivenInput) -> Subject:
    """The subject with what the user says of an input: the roles of its axes, and sizes that the file leaves open."""
    kind = subject.inputs[name]
    named = {axis for axis in given.axes if isinstance(axis, str)}
    roles = tuple(
        axis if isinstance(axis, str) else OTHER if role in named else role
        for axis, role in zip(given.axes, subject.axes.inputs[name], strict=True)
    )
    axes = list(zip(given.axes, roles, kind.shape or (), strict=True))
    for axis, role, size in axes:
        if role == BATCH and axis not in (1, BATCH, size):
            raise OptionError(
                f"--input {name} has a batch of {axis}, expected 1: the scenario says how many streams a call has, "
                f"as --scenario multi-stream:{axis}"
            )
        if role != BATCH and isinstance(axis, int) and isinstance(size, int) and axis != size:
            raise OptionError(f"--input {name} has an axis of {axis}, expected {size}: the input is {kind}")
    shape = tuple(size if role or isinstance(axis, str) else axis for axis, role, size in axes)
    return subject.with_axes(name, roles, shape)


def _in_chunks(arrays: NDArray[Any], axis: int, time: int) -> NDArray[Any]:
    """Successive calls of `time` steps each, from those of one step; all are used, the first ones again if need be."""
    count = max(len(arrays) // time, 1)
    chosen = np.take(arrays, np.arange(count * time) % len(arrays), 0)
    chunks = [chosen[start : start + time] for start in range(0, count * time, time)]
    return np.stack([np.concatenate(list(chunk), axis) for chunk in chunks])

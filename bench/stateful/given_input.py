"""What a user says of an input: the size or the meaning of its axes, or arrays of successive calls."""

import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ...export.doctor.axes import BATCH, TIME
from ...runtime.errors import OptionError, truncated
from ...runtime.io.files import opened
from ...runtime.session.contract import TensorType

_FORM = "numbers, batch and time with commas between them, as batch,time,80, or a .npy file"
_MOST_SIZE = 2**31 - 1


@final
@dataclass(frozen=True)
class GivenInput:
    """What is said of an input.

    Attributes:
        axes: For each axis of a call its size, `batch` or `time`.
        arrays: The inputs of successive calls, [calls, ...]; None for random numbers.
    """

    axes: tuple[int | str, ...]
    arrays: NDArray[Any] | None = None

    @classmethod
    def parse(cls, name: str, text: str, kind: TensorType) -> "GivenInput":
        """Read `1,576`, `time,576` or the name of a .npy file, which holds one call, or the calls along a first axis.

        Raises:
            StorageError: The file cannot be read.
            OptionError: The text has another form, the file is no .npy file, or its type or number of axes differs.
        """
        given = cls._of_file(name, Path(text), kind) if text.endswith(".npy") else cls._of_text(name, text)
        if kind.shape is not None and len(given.axes) != len(kind.shape):
            raise OptionError(f"--input {name}: {text} has {len(given.axes)} axes, but the input is {kind}")
        return given

    @classmethod
    def _of_text(cls, name: str, text: str) -> "GivenInput":
        axes = tuple(_axis(name, part.strip()) for part in text.split(","))
        if axes.count(BATCH) > 1 or axes.count(TIME) > 1:
            raise OptionError(f"--input {name}: {text} names two axes batch or time, expected one of each at most")
        return cls(axes)

    @classmethod
    def _of_file(cls, name: str, path: Path, kind: TensorType) -> "GivenInput":
        with opened(path) as file:
            try:
                array = np.lib.format.read_array(file, allow_pickle=False)
            except (ValueError, EOFError, OSError, MemoryError) as error:
                raise OptionError(f"--input {name}: {path} is no .npy file of numbers: {truncated(error)}") from error
        if str(array.dtype) != kind.dtype:
            raise OptionError(
                f"--input {name}: {path} holds {array.dtype}, expected {kind.dtype}: array.astype({kind.dtype!r})"
            )
        rank = array.ndim if kind.shape is None else len(kind.shape)
        arrays = array[None] if array.ndim == rank else array
        if arrays.ndim != rank + 1 or len(arrays) == 0:
            raise OptionError(
                f"--input {name}: {path} is {list(array.shape)}, expected the {rank} axes of {kind}, or one axis more "
                "before them for the calls"
            )
        return cls(arrays.shape[1:], arrays)


def _axis(name: str, text: str) -> int | str:
    if text in (BATCH, TIME):
        return text
    if not (text.isdecimal() and text.isascii() and 1 <= int(text) <= _MOST_SIZE):
        raise OptionError(f"--input {name}: {reprlib.repr(text)} is no axis, expected {_FORM}")
    return int(text)

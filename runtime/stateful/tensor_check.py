"""The type and shape that an input expects, prepared for a fast check of every call."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..session.contract import TensorType


@final
class TensorCheck:
    """Compares arrays with a declared type.

    Attributes:
        kind: The declared type.
        names: Place and name of each free axis that has a name.
    """

    def __init__(self, kind: TensorType) -> None:
        axes = list(enumerate(kind.shape or ()))
        self.kind = kind
        self.names = [(place, axis) for place, axis in axes if isinstance(axis, str) and axis]
        self._rank = None if kind.shape is None else len(axes)
        self._fixed = [(place, axis) for place, axis in axes if isinstance(axis, int)]
        self._dtype = numpy_type(kind.dtype)

    def fits(self, array: NDArray[Any]) -> bool:
        """Whether an array has the type, the rank and the fixed sizes."""
        if array.dtype != self._dtype and not (self._dtype is None and array.dtype.kind in "OU"):
            return False
        shape = array.shape
        if self._rank is None:
            return True
        return len(shape) == self._rank and all(shape[place] == size for place, size in self._fixed)

    def has_sizes(self, array: NDArray[Any], sizes: Mapping[str, int]) -> bool:
        """Whether the axes whose names are among `sizes` have these sizes; of an array that fits."""
        shape = array.shape
        return all(sizes.get(axis, shape[place]) == shape[place] for place, axis in self.names)


def numpy_type(name: str) -> np.dtype[Any] | None:
    """The numpy type of this name; None for what is no number, as text."""
    try:
        return np.dtype(name)
    except TypeError:
        return None

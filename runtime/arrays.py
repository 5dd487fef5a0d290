"""Arrays as values."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)


def read_only(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """`array` itself where nobody can write to it, else a copy that nobody can write to."""
    return frozen(array.copy()) if array.flags.writeable else array


def frozen(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """`array` itself, which nobody can write to from now on."""
    array.flags.writeable = False
    return array

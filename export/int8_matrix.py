"""int8 matrices for exact integer products with uint8 activations, on every processor."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..runtime.artifact.weights import LARGEST_PAIR

LARGEST = 127
"""Largest magnitude of a weight."""

ZERO_POINT = 128
"""The uint8 value of 0 in activations, which reach from 1 to 255."""


@final
@dataclass(frozen=True, eq=False)
class Int8Matrix:
    """A matrix in int8 with one scale for each column.

    Attributes:
        integers: int8 [inputs, outputs].
        scales: float32 [outputs]; a weight is about its integer times the scale of its column.
    """

    integers: NDArray[np.int8]
    scales: NDArray[np.float32]

    @classmethod
    def of(cls, matrix: NDArray[np.floating]) -> "Int8Matrix":
        """Round a matrix [inputs, outputs] to the nearest integers that keep `LARGEST` and `LARGEST_PAIR`."""
        magnitudes = np.abs(matrix.astype(np.float64))
        # Rounding adds at most 1 to a pair.
        pairs = (magnitudes[:-1] + magnitudes[1:]).max(axis=0, initial=0) / (LARGEST_PAIR - 1)
        scales = np.maximum(magnitudes.max(axis=0) / LARGEST, pairs).astype(np.float32)
        scales[scales == 0] = 1
        return cls(np.rint(matrix / scales).astype(np.int8), scales)

    def split(self, row: int) -> tuple["Int8Matrix", "Int8Matrix"]:
        """The rows before `row`, and those from there on."""
        return Int8Matrix(self.integers[:row], self.scales), Int8Matrix(self.integers[row:], self.scales)

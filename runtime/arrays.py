"""The tensors of a state: read-only numpy arrays, or tensors that stay on a device until they are read."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, TypeVar, final, overload

import numpy as np
from numpy.typing import NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)


def as_read_only(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """`array` itself if it is read-only, else a read-only copy."""
    return freeze(array.copy()) if array.flags.writeable else array


def freeze(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """Make `array` read-only and return it."""
    array.setflags(write=False)
    return array


Tensors: TypeAlias = Sequence[NDArray[np.float32]]
"""float32 [batch, width] for each state of the artifact, in its order; read-only."""


@final
class DeviceTensors(Sequence[NDArray[np.float32]]):
    """Tensors on a device; each is copied to the processor's memory when it is first read.

    Attributes:
        values: onnxruntime's OrtValues, float32 [batch, width] each.
    """

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = tuple(values)
        self._copies: dict[int, NDArray[np.float32]] = {}

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The arrays' shapes, without a copy."""
        return tuple(tuple(value.shape()) for value in self.values)

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.float32]: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[NDArray[np.float32], ...]: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.float32] | tuple[NDArray[np.float32], ...]:
        if isinstance(index, slice):
            return tuple(self[position] for position in range(*index.indices(len(self))))
        position = range(len(self))[index]
        if position not in self._copies:
            self._copies[position] = as_read_only(self.values[position].numpy())
        return self._copies[position]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[position] for position in range(len(self)))


def as_value(tensors: Tensors) -> Tensors:
    """`tensors` as an immutable value: copies of writable arrays, device tensors as they are."""
    return tensors if isinstance(tensors, DeviceTensors) else tuple(map(as_read_only, tensors))


def shapes(tensors: Tensors) -> tuple[tuple[int, ...], ...]:
    """The shapes of `tensors`, without a copy."""
    return tensors.shapes if isinstance(tensors, DeviceTensors) else tuple(tensor.shape for tensor in tensors)


def types(tensors: Tensors) -> tuple[np.dtype[Any], ...]:
    """The types of `tensors`, without a copy; on a device all are float32."""
    if isinstance(tensors, DeviceTensors):
        return (np.dtype(np.float32),) * len(tensors)
    return tuple(tensor.dtype for tensor in tensors)

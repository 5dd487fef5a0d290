"""The tensors of a state: numpy arrays, or arrays that stay on a device until somebody looks at them."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, TypeVar, final, overload

import numpy as np
from numpy.typing import NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)


def as_read_only(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """`array` itself where nobody can write to it, else a copy that nobody can write to."""
    return freeze(array.copy()) if array.flags.writeable else array


def freeze(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """`array` itself, which nobody can write to from now on."""
    array.flags.writeable = False
    return array


Tensors: TypeAlias = Sequence[NDArray[np.float32]]
"""float32 [batch, width] for each state of the artifact, in its order; nobody can write to them."""


@final
class DeviceTensors(Sequence[NDArray[np.float32]]):
    """onnxruntime's values on a device; each is copied to the processor's memory when it is first asked for."""

    def __init__(self, values: Sequence[Any]) -> None:
        """Hold `values`, onnxruntime's OrtValue of float32 [batch, width] each."""
        self.values = tuple(values)
        self._copies: dict[int, NDArray[np.float32]] = {}

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The arrays' shapes, without a copy."""
        return tuple(tuple(value.shape()) for value in self.values)

    def __len__(self) -> int:
        """The number of arrays."""
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.float32]: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[NDArray[np.float32], ...]: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.float32] | tuple[NDArray[np.float32], ...]:
        """A copy in the processor's memory, the same one each time."""
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        place = range(len(self))[index]
        if place not in self._copies:
            self._copies[place] = as_read_only(self.values[place].numpy())
        return self._copies[place]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """All copies."""
        return (self[place] for place in range(len(self)))


def kept(tensors: Tensors) -> Tensors:
    """`tensors` as a value: where they lie on a device, else as copies where somebody could still write to them."""
    return tensors if isinstance(tensors, DeviceTensors) else tuple(map(as_read_only, tensors))


def shapes(tensors: Tensors) -> tuple[tuple[int, ...], ...]:
    """The arrays' shapes, without a copy."""
    return tensors.shapes if isinstance(tensors, DeviceTensors) else tuple(tensor.shape for tensor in tensors)


def types(tensors: Tensors) -> tuple[np.dtype[Any], ...]:
    """The arrays' types, without a copy; on a device all are float32."""
    if isinstance(tensors, DeviceTensors):
        return (np.dtype(np.float32),) * len(tensors)
    return tuple(tensor.dtype for tensor in tensors)

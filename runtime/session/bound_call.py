"""Calls of a session on arrays that stay the same: nothing is allocated, named or checked a second time."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, final

from numpy.typing import NDArray

_Item = TypeVar("_Item")


@final
class BoundCall:
    """A call that reads and writes arrays in place; for one thread at a time."""

    def __init__(self, session: Any, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]) -> None:
        """`inputs` and `outputs`: name -> a contiguous array on the processor, of the shape of every call."""
        self._session = session
        self._arrays = (inputs, outputs)  # the binding holds their addresses only
        self._binding = session.io_binding()
        for name, array in inputs.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self) -> None:
        """Read the inputs and write the outputs."""
        self._session.run_with_iobinding(self._binding)


@final
class Reused(Generic[_Item]):
    """Objects that each belong to one thread at a time; as many as threads have used at once are kept. Thread-safe."""

    def __init__(self, make: Callable[[], _Item]) -> None:
        self._make = make
        self._idle: list[_Item] = []

    def take(self) -> _Item:
        """An object that nobody uses."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._make()

    def give_back(self, item: _Item) -> None:
        """End the use of an object; one that is not given back is dropped."""
        self._idle.append(item)

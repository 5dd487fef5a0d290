"""The states of any graph as one value."""

from collections.abc import Iterator, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..arguments import checked_array, checked_text, wrong_type
from ..arrays import as_read_only, freeze
from ..errors import StateError


@final
class StateTensors(Mapping[str, NDArray[Any]]):
    """Name of each state input -> its array, of any type and shape. Nothing changes it: its arrays are read-only.

    It can be kept, gone on from twice, pickled, and saved: `numpy.savez(file, **state)`,
    `StateTensors(numpy.load(file))`.
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Copy writable arrays; raise ArgumentError for anything else than names and arrays."""
        if not isinstance(tensors, Mapping):
            raise wrong_type("tensors", tensors, "a mapping of names to arrays")
        for name, array in tensors.items():
            checked_array(f"the state {checked_text('the name of a state', name)!r}", array, "biufc", "numbers")
        self._tensors = {name: as_read_only(array) for name, array in tensors.items()}

    @classmethod
    def made_of(cls, tensors: Mapping[str, NDArray[Any]]) -> "StateTensors":
        """A state of arrays that a call has just returned: they are frozen, not copied or checked."""
        state = object.__new__(cls)
        state._tensors = {name: freeze(array) for name, array in tensors.items()}
        return state

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in self.items())
        return f"<StateTensors: {shown}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies are read-only too."""
        return StateTensors, (dict(self._tensors),)

    def require_finite(self) -> None:
        """Raise StateError, which names the state, for NaN or infinity."""
        for name, array in self.items():
            if array.dtype.kind in "fc" and not np.isfinite(array).all():
                raise StateError(f"the state {name!r} holds numbers that are not finite; begin with initial_state()")

"""The architecture of a network: its recurrent cell and sizes, and the names of its states."""

import reprlib
from dataclasses import dataclass
from typing import Any, final

from ..errors import ArtifactError

CELLS = {"lstm": ("cell", "hidden"), "gru": ("hidden",), "rnn": ("hidden",)}
"""Recurrent cell -> its states. `rnn` is Elman's with tanh."""
MOST_WEIGHT_BYTES = 2**31 - 2**24
"""Limit for the weights of one ONNX file, in float32."""
_MOST_LAYERS, _WIDEST = 1000, 2**24


def state_names(cell: str, layer_count: int) -> list[str]:
    """Names of the state inputs, sorted: `cell_0`, `cell_1`, ..., `hidden_0`, `hidden_1`, ..."""
    return sorted(f"{state}_{layer}" for state in CELLS[cell] for layer in range(layer_count))


@final
@dataclass(frozen=True)
class Architecture:
    """The network's cell and sizes.

    Attributes:
        cell: Recurrent cell of every layer: one of `CELLS`.
        embedding_size: Width of a token's vector.
        layer_sizes: Hidden size of each layer, first to last.
        tied: Whether embedding and output projection share one matrix.
    """

    cell: str
    embedding_size: int
    layer_sizes: tuple[int, ...]
    tied: bool

    def __post_init__(self) -> None:
        """Raise ArtifactError for a field of another type."""
        sizes = (self.embedding_size, *self.layer_sizes) if isinstance(self.layer_sizes, tuple) else (None,)
        if not (all(type(size) is int for size in sizes) and type(self.cell) is str and type(self.tied) is bool):
            raise ArtifactError(f"the model description is not one that this version reads: {reprlib.repr(vars(self))}")

    def __str__(self) -> str:
        """In words: `lstm layers of 256, 128 on an embedding of 200, tied`."""
        sizes = ", ".join(map(str, self.layer_sizes))
        return f"{self.cell} layers of {sizes} on an embedding of {self.embedding_size}{', tied' if self.tied else ''}"

    @classmethod
    def from_json(cls, value: Any) -> "Architecture":
        """Read the result of `to_json`.

        Raises:
            ArtifactError: A field is missing, has another type or is out of range, or the cell is not known.
        """
        try:
            read = cls(value["cell"], value["embedding_size"], tuple(value["layer_sizes"]), value["tied"])
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"the model description lacks {error}; found {reprlib.repr(value)}") from error
        sizes = (read.embedding_size, *read.layer_sizes)
        if not (read.cell in CELLS and 1 < len(sizes) <= _MOST_LAYERS and all(0 < size <= _WIDEST for size in sizes)):
            raise ArtifactError(f"the model description is not one that this version reads: {reprlib.repr(value)}")
        return read

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {
            "cell": self.cell,
            "embedding_size": self.embedding_size,
            "layer_sizes": list(self.layer_sizes),
            "tied": self.tied,
        }

    @property
    def states(self) -> dict[str, int]:
        """Name of each state tensor -> its width, in the artifact's sorted order."""
        names = state_names(self.cell, len(self.layer_sizes))
        return {name: self.layer_sizes[int(name.rpartition("_")[2])] for name in names}

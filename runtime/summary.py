"""The layers of a network as a table: shape of what comes out and number of trained parameters."""

from typing import NamedTuple

from .artifact import Architecture


class LayerRow(NamedTuple):
    """One layer: its name, its output's shape, its number of trained parameters."""

    name: str
    shape: str
    parameters: int


def layer_table(architecture: Architecture, vocabulary_size: int) -> list[LayerRow]:
    """One row for each layer, from the embedding to the output projection."""
    widths = (architecture.embedding_size, *architecture.layer_sizes)
    rows = [LayerRow("embedding", f"[batch, time, {widths[0]}]", vocabulary_size * widths[0])]
    for index, (width, size) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        name = f"{architecture.cell} {index}"
        rows.append(LayerRow(name, f"[batch, time, {size}]", 4 * size * (width + size + 1)))
    name = "projection (tied to the embedding)" if architecture.tied else "projection"
    weights = 0 if architecture.tied else widths[-1] * vocabulary_size
    rows.append(LayerRow(name, f"[batch, time, {vocabulary_size}]", weights + vocabulary_size))
    return rows

"""The names of an ONNX file's inputs and outputs, read without the package onnx, which would count as memory."""

from pathlib import Path
from typing import NamedTuple

from ...runtime.artifact.protobuf import fields, text
from ...runtime.io.files import read_bytes

_GRAPH = 7
_INITIALIZER, _INPUT, _OUTPUT = 5, 11, 12
_NAMES = {_INITIALIZER: 8, _INPUT: 1, _OUTPUT: 1}
"""Numbers of fields in a graph -> the number of the name in such a field."""


class GraphNames(NamedTuple):
    """Names in the file's order; inputs are those without a default."""

    inputs: list[str]
    outputs: list[str]


def read_names(artifact: Path) -> GraphNames:
    """The names of a file.

    Raises:
        StorageError: The file cannot be read.
        ArtifactError: It is damaged.
    """
    data = memoryview(read_bytes(artifact))
    found: dict[int, list[str]] = {number: [] for number in _NAMES}
    for graph in (field for field in fields(data) if field.number == _GRAPH):
        for part in fields(data, graph.start, graph.end):
            if part.number in found:
                names = fields(data, part.start, part.end)
                found[part.number] += [text(data, field) for field in names if field.number == _NAMES[part.number]]
    inputs = [name for name in found[_INPUT] if name not in found[_INITIALIZER]]
    return GraphNames(inputs, found[_OUTPUT])

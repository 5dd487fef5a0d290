"""Writes small ONNX graphs without the package onnx.

The field numbers are from https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import numpy as np

from ..artifact import protobuf

FLOAT, INT64, DOUBLE = 1, 7, 11
_INT_ATTRIBUTE = 2
_IR_VERSION, _OPSET = 8, 18

Part = tuple[int, bytes]
"""A field of a graph: its number and its bytes."""


def model(name: str, *parts: Part) -> bytes:
    """An ONNX model of these parts."""
    graph = protobuf.message(*parts, (2, name))
    return protobuf.message((1, _IR_VERSION), (2, "lmtool"), (7, graph), (8, protobuf.message((1, ""), (2, _OPSET))))


def node(operator: str, inputs: str, outputs: str, **attributes: int) -> Part:
    """A node; names are separated by spaces, attributes are whole numbers from 0."""
    names = [*((1, name) for name in inputs.split()), *((2, name) for name in outputs.split())]
    entries = [
        protobuf.message((1, name), (3, value), (20, _INT_ATTRIBUTE)) for name, value in sorted(attributes.items())
    ]
    return 1, protobuf.message(*names, (4, operator), *((5, entry) for entry in entries))


def constant(name: str, values: list[int] | float, kind: int = INT64) -> Part:
    """A constant tensor: a list of numbers, or one number without axes."""
    array = np.array(values, "<i8" if kind == INT64 else "<f8")
    sizes = [(1, size) for size in array.shape]
    return 5, protobuf.message(*sizes, (2, kind), (8, name), (9, array.tobytes()))


def input_tensor(name: str, kind: int, *sizes: str | int) -> Part:
    """An input of the graph; free sizes have names."""
    return 11, _tensor(name, kind, *sizes)


def output_tensor(name: str, kind: int, *sizes: str | int) -> Part:
    """An output of the graph; free sizes have names."""
    return 12, _tensor(name, kind, *sizes)


def _tensor(name: str, kind: int, *sizes: str | int) -> bytes:
    axes = [protobuf.message((1, size) if isinstance(size, int) else (2, size)) for size in sizes]
    tensor = protobuf.message((1, kind), (2, protobuf.message(*((1, axis) for axis in axes))))
    return protobuf.message((1, name), (2, protobuf.message((1, tensor))))

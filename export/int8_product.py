"""Nodes that multiply uint8 activations by int8 matrices."""

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from .graph_builder import GraphBuilder
from .int8_matrix import LARGEST, ZERO_POINT, Int8Matrix

_SCALE, _ZERO_POINT = "activation_scale", "activation_zero_point"


def add_activation_constants(graph: GraphBuilder) -> None:
    """Add the scale and the zero point of activations."""
    graph.constant(_SCALE, np.array(1 / LARGEST, np.float32))
    graph.constant(_ZERO_POINT, np.array(ZERO_POINT, np.uint8))


def add_matrix(graph: GraphBuilder, name: str, matrix: Int8Matrix, bias: NDArray[np.float32]) -> None:
    """Add the constants of `product`."""
    graph.constant(name, matrix.integers)
    graph.constant(f"{name}.scales", matrix.scales)
    graph.constant(f"{name}.bias", bias)


def quantize(graph: GraphBuilder, values: str, output: str) -> str:
    """Add float32 values as uint8 activations."""
    return graph.node("QuantizeLinear", [values, _SCALE, _ZERO_POINT], output)


def integer_product(graph: GraphBuilder, activations: str, matrix: str, output: str) -> str:
    """Add the product of uint8 [..., inputs] and an int8 matrix [inputs, outputs]: int32 [..., outputs]."""
    return graph.node("MatMulInteger", [activations, matrix, _ZERO_POINT], output)


def product(graph: GraphBuilder, activations: str, name: str, output: str, matrix: str | None = None) -> str:
    """Add the product of uint8 [..., inputs] and the matrix `name`, and its bias: float32 [..., outputs].

    onnxruntime fuses its nodes, as one Mul combines both scales and constants are not folded. `matrix` is another copy
    of the matrix.
    """
    integers = integer_product(graph, activations, matrix or name, f"{output}.integers")
    scales = graph.node("Mul", [_SCALE, f"{name}.scales"], f"{output}.scales")
    return scaled(graph, integers, scales, f"{name}.bias", output)


def scaled(graph: GraphBuilder, integers: str, scales: str, bias: str, output: str) -> str:
    """Add int32 [..., outputs] times scales [outputs] plus a bias [outputs]: float32 [..., outputs]."""
    numbers = graph.node("Cast", [integers], f"{output}.numbers", to=TensorProto.FLOAT)
    multiplied = graph.node("Mul", [numbers, scales], f"{output}.multiplied")
    return graph.node("Add", [multiplied, bias], output)

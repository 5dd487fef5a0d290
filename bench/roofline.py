"""Lower bound of a step's time on a machine: the time to read an artifact's weights, and to multiply by them.

At batch 1 a step reads every weight but the embedding's other rows. A larger batch reads the weights once for all its
rows, but multiplies for each row. The rates are the best of several products, measured in every round: numpy's over as
many bytes, numpy's in fp32, and onnxruntime's of uint8 by int8. They are estimates, which better kernels could beat.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..runtime.session.providers import PROVIDERS
from ..runtime.session.session import SessionOptions, start_session

_REPEATS = 15
_WIDTHS = (256, 1024, 4096)
_PRODUCTS = ((64, 256, 4096), (64, 1024, 1024), (256, 256, 4096), (512, 512, 512), (1024, 1024, 1024))
"""Rows, inner size, columns."""
_INT8_PRODUCTS = ((64, 256, 4096), (256, 512, 2048))
_OPSET, _IR_VERSION = 17, 8
"""Not those of `export`, whose import loads torch: a second of each round."""


@final
@dataclass(frozen=True)
class Roofline:
    """Work of a step of an artifact, and rates of this machine.

    Attributes:
        weight_bytes: Bytes of the weights that a step reads.
        bytes_per_second: Best rate at which numpy reads that many bytes repeatedly.
        operations: Multiplications and additions of a token by fp32 matrices.
        operations_per_second: Best rate of numpy's fp32 matrix products.
        int8_operations: Multiplications and additions of a token by 8-bit matrices.
        int8_operations_per_second: Best rate of onnxruntime's products of uint8 by int8.
    """

    weight_bytes: int
    bytes_per_second: float
    operations: int
    operations_per_second: float
    int8_operations: int
    int8_operations_per_second: float

    def best(self, other: "Roofline | None") -> "Roofline":
        """The better rates of two measurements of the same weights: other work on a machine only lowers them."""
        if other is None:
            return self
        return replace(
            self,
            bytes_per_second=max(self.bytes_per_second, other.bytes_per_second),
            operations_per_second=max(self.operations_per_second, other.operations_per_second),
            int8_operations_per_second=max(self.int8_operations_per_second, other.int8_operations_per_second),
        )

    def of_weights(self, weights: Sequence[np.ndarray]) -> "Roofline":
        """The bound of a part of a step, which reads these weights."""
        return replace(
            self,
            weight_bytes=sum(weight.nbytes for weight in weights),
            operations=_operations(weights, np.float32),
            int8_operations=_operations(weights, np.int8),
        )

    def seconds(self, batch_size: int) -> float:
        """The shortest time of a call that reads one token of each of `batch_size` streams."""
        reading = self.weight_bytes / self.bytes_per_second
        if batch_size == 1:
            return reading
        token = self.operations / self.operations_per_second + self.int8_operations / self.int8_operations_per_second
        return max(reading, batch_size * token)


def measure_roofline(artifact: Path) -> Roofline:
    """Count an artifact's weights and measure this machine's rates for as many bytes."""
    weights = step_weights(artifact)
    size = sum(weight.nbytes for weight in weights)
    return Roofline(
        size,
        _bytes_per_second(size),
        _operations(weights, np.float32),
        max(_product_rate(*shape) for shape in _PRODUCTS),
        _operations(weights, np.int8),
        max(_int8_product_rate(*shape) for shape in _INT8_PRODUCTS),
    )


def _operations(weights: Sequence[np.ndarray], kind: type) -> int:
    """Multiplications and additions of a token by the matrices of a type."""
    return sum(2 * weight.size for weight in weights if _is_matrix(weight) and weight.dtype == kind)


def step_weights(artifact: Path) -> list[np.ndarray]:
    """The weights that a step reads completely: all but an embedding of which it reads a row.

    The else-branch of an If, the layers of int8 artifacts for a sequence, is not read.
    """
    graph = onnx.load(artifact).graph
    nodes = list(_step_nodes(graph))
    whole = {name for node in nodes if node.op_type != "Gather" for name in node.input}
    return [numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name in whole]


def _step_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes that one token meets."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.name != "else_branch":
                yield from _step_nodes(attribute.g)


def _is_matrix(weight: np.ndarray) -> bool:
    """Whether two axes are larger than 1; a bias may have several axes of 1."""
    return len([size for size in weight.shape if size > 1]) > 1


def _bytes_per_second(size: int) -> float:
    numbers = np.ones(max(size // 4, max(_WIDTHS)), np.float32)
    products: list[Callable[[], object]] = [lambda: numbers @ numbers]
    for width in _WIDTHS:
        matrix, vector = numbers[: len(numbers) // width * width].reshape(-1, width), np.ones(width, np.float32)
        products.append(functools.partial(np.matmul, matrix, vector))
    return numbers.nbytes / min(map(_fastest, products))


def _product_rate(rows: int, inner: int, columns: int) -> float:
    activations, weight = np.ones((rows, inner), np.float32), np.ones((inner, columns), np.float32)
    return 2 * rows * weight.size / _fastest(lambda: activations @ weight)


def _int8_product_rate(rows: int, inner: int, columns: int) -> float:
    activations, weight = np.ones((rows, inner), np.uint8), np.ones((inner, columns), np.int8)
    product = helper.make_graph(
        [helper.make_node("MatMulInteger", ["activations", "weight"], ["sums"])],
        "product",
        [helper.make_tensor_value_info("activations", TensorProto.UINT8, [rows, inner])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, [rows, columns])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(product, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    session = start_session(model.SerializeToString(), PROVIDERS["cpu"], SessionOptions(), guard_saturation=False)
    return 2 * rows * weight.size / _fastest(lambda: session.run(None, {"activations": activations}))


def _fastest(function: Callable[[], object]) -> float:
    """Seconds of the fastest of some calls."""
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)

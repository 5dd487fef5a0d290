"""Lower bound of a step's time on a machine: the time to read an artifact's weights, and to multiply by them.

At batch 1 a step reads every weight but the embedding's other rows. A larger batch reads the weights once for all its
rows, but multiplies for each row. Products of integers are faster than anything measured here, so the bound of integer
weights is the time to read them. The rates are the best of several numpy products over as many bytes, measured in every
round: estimates, which better kernels could beat.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import onnx
from onnx import numpy_helper

_REPEATS = 15
_WIDTHS = (256, 1024, 4096)
_PRODUCTS = ((64, 256, 4096), (64, 1024, 1024), (256, 256, 4096), (512, 512, 512), (1024, 1024, 1024))
"""Rows, inner size, columns."""


@final
@dataclass(frozen=True)
class Roofline:
    """Work of a step of an artifact, and rates of this machine.

    Attributes:
        weight_bytes: Bytes of the weights that a step reads.
        bytes_per_second: Best rate at which numpy reads that many bytes repeatedly.
        operations: Multiplications and additions of a token by fp32 matrices.
        operations_per_second: Best rate of numpy's fp32 matrix products.
    """

    weight_bytes: int
    bytes_per_second: float
    operations: int
    operations_per_second: float

    def best(self, other: "Roofline | None") -> "Roofline":
        """The better rates of two measurements of the same weights: other work on a machine only lowers them."""
        if other is None:
            return self
        return replace(
            self,
            bytes_per_second=max(self.bytes_per_second, other.bytes_per_second),
            operations_per_second=max(self.operations_per_second, other.operations_per_second),
        )

    def seconds(self, batch_size: int) -> float:
        """The shortest time of a call that reads one token of each of `batch_size` streams."""
        reading = self.weight_bytes / self.bytes_per_second
        return reading if batch_size == 1 else max(reading, batch_size * self.operations / self.operations_per_second)


def measure_roofline(artifact: Path) -> Roofline:
    """Count an artifact's weights and measure this machine's rates for as many bytes."""
    weights = _step_weights(artifact)
    size = sum(weight.nbytes for weight in weights)
    operations = sum(2 * weight.size for weight in weights if _is_matrix(weight) and weight.dtype == np.float32)
    return Roofline(size, _bytes_per_second(size), operations, _operations_per_second())


def _step_weights(artifact: Path) -> list[np.ndarray]:
    """The weights that a step reads completely: all but an embedding of which it reads a row."""
    graph = onnx.load(artifact).graph
    gathered = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    whole = {name for node in graph.node if node.op_type != "Gather" for name in node.input}
    return [
        numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name in whole or tensor.name not in gathered
    ]


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


def _operations_per_second() -> float:
    return max(_product_rate(*shape) for shape in _PRODUCTS)


def _product_rate(rows: int, inner: int, columns: int) -> float:
    activations, weight = np.ones((rows, inner), np.float32), np.ones((inner, columns), np.float32)
    return 2 * rows * weight.size / _fastest(lambda: activations @ weight)


def _fastest(function: Callable[[], object]) -> float:
    """Seconds of the fastest of some calls."""
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)

"""How fast a machine could run an artifact at all: the time to read its weights, and to multiply by them.

At batch 1 a step reads every weight but the embedding's rows of other tokens, so it cannot take less than their bytes
over the rate at which this machine reads as many bytes; that rate is measured in the same run, by a matrix-vector
product of numpy over that many bytes. A batch reads them once for all its rows, but multiplies for each: in fp32 its
floor is the operations over numpy's rate of them. Integers are multiplied faster, so theirs stays the reading.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import onnx
from onnx import numpy_helper

_REPEATS = 15
_COLUMNS = 1024
_ROWS = 64


@final
@dataclass(frozen=True)
class Floor:
    """What bounds a step of an artifact on this machine.

    Attributes:
        weight_bytes: Weights that a step reads.
        bytes_per_second: Rate at which numpy reads so many bytes again and again.
        operations: Multiplications and additions of a token by fp32 weights; 0 where they are no floats.
        operations_per_second: numpy's rate of them in fp32 matrix products.
    """

    weight_bytes: int
    bytes_per_second: float
    operations: int
    operations_per_second: float

    def seconds(self, batch_size: int) -> float:
        """The shortest time of a call that reads one token of each of so many streams."""
        reading = self.weight_bytes / self.bytes_per_second
        return reading if batch_size == 1 else max(reading, batch_size * self.operations / self.operations_per_second)


def measure_floor(artifact: Path) -> Floor:
    """Count an artifact's weights and measure this machine's rates for as many."""
    weights = _weights(artifact)
    size = sum(weight.nbytes for weight in weights)
    matrices = [weight for weight in weights if weight.ndim > 1]
    floats = all(matrix.dtype == np.float32 for matrix in matrices)
    operations = sum(2 * matrix.size for matrix in matrices) if floats else 0
    return Floor(size, _bytes_per_second(size), operations, _operations_per_second())


def _weights(artifact: Path) -> list[np.ndarray]:
    """What a step reads whole: every weight, but not an embedding of which it takes a row."""
    graph = onnx.load(artifact).graph
    gathered = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    whole = {name for node in graph.node if node.op_type != "Gather" for name in node.input}
    return [
        numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name in whole or tensor.name not in gathered
    ]


def _bytes_per_second(size: int) -> float:
    matrix = np.ones((max(size // (4 * _COLUMNS), 1), _COLUMNS), np.float32)
    vector = np.ones(_COLUMNS, np.float32)
    return matrix.nbytes / _fastest(lambda: matrix @ vector)


def _operations_per_second() -> float:
    activations, weight = np.ones((_ROWS, _COLUMNS), np.float32), np.ones((_COLUMNS, _COLUMNS), np.float32)
    return 2 * _ROWS * weight.size / _fastest(lambda: activations @ weight)


def _fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of some calls: what the machine can do."""
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)

"""Inputs for trial runs: random numbers of the declared types, ids that tables have, and values that graphs ask for."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from .layer import OPERATORS, at
from .subject import Subject

_MOST_ID = 1000


def random_input(subject: Subject, name: str, shape: tuple[int, ...], time: int) -> NDArray[Any]:
    """Numbers for an input; the same for the same arguments."""
    random, kind = np.random.default_rng([*name.encode()]), np.dtype(subject.inputs[name].dtype)
    if kind.kind == "f":
        return random.normal(size=shape).astype(kind)
    if kind.kind == "b":
        return np.ones(shape, kind)
    if _is_length(subject, name):
        return np.full(shape, time, kind)
    asked = _asked_values(subject, name)
    if asked:
        return np.full(shape, max(asked), kind)
    return random.integers(0, _number_of_ids(subject, name), shape).astype(kind)


def _is_length(subject: Subject, name: str) -> bool:
    """Whether an input gives the lengths of sequences to a layer."""
    lengths = [at(layer.node.input, 4) for layer in subject.layers if layer.node.op_type in OPERATORS]
    return any(name in subject.lineage.inputs_behind(length) for length in lengths if length)


def _asked_values(subject: Subject, name: str) -> list[int]:
    """Whole numbers that the graph compares an input with, such as a sampling rate."""
    found = []
    for node in _readers(subject, name, "Equal"):
        for other in node.input:
            constant = _constant(subject, other)
            if constant is not None and constant.size == 1 and constant.dtype.kind in "iu":
                found.append(int(constant.reshape(())))
    return found


def _number_of_ids(subject: Subject, name: str) -> int:
    """Rows of the smallest table that an input's ids choose from; 2 where there is none."""
    rows = []
    for node in _readers(subject, name, "Gather"):
        table = _constant(subject, node.input[0])
        if table is not None and table.ndim and name in _identity(subject, node.input[1]):
            rows.append(len(table))
    return min([*rows, _MOST_ID]) if rows else 2


def _readers(subject: Subject, name: str, operator: str) -> Iterator[onnx.NodeProto]:
    for node, _ in subject.lineage.nodes:
        if node.op_type == operator and any(name in _identity(subject, given) for given in node.input):
            yield node


def _identity(subject: Subject, name: str) -> set[str]:
    """The inputs that a tensor holds unchanged."""
    return subject.lineage.sources(name)[0]


def _constant(subject: Subject, name: str) -> NDArray[Any] | None:
    """The value of an initializer or a constant."""
    tensor = subject.lineage.tensor(name)
    return None if tensor is None else numpy_helper.to_array(tensor)

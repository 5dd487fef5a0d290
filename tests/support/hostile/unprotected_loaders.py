"""Positive controls: loaders that lack the protections of lmtool's."""

import pickle  # noqa: TID251  # a positive control
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from support.hostile.artifacts import BIAS, billion_laughs, in_place_of_bias, parts
from support.hostile.entry_points import Sandbox
from support.hostile.files import Source

MANY = 100_000_000
"""float32 numbers: 400 MB."""


def _session(model: onnx.ModelProto) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _unpickle(source: Source, _: Sandbox) -> None:
    pickle.loads(source.pickle())


def _read_beside(source: Source, _: Sandbox) -> None:
    """A model from bytes: onnxruntime lets it read files of the current folder."""
    model, _metadata = parts(source)
    size = next(tensor.dims[0] for tensor in model.graph.initializer if tensor.name == BIAS)
    outside = onnx.TensorProto(name=BIAS, data_type=1, dims=[size], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "relative.bin", "offset": 0, "length": 4 * size}.items():
        outside.external_data.add(key=key, value=str(value))
    in_place_of_bias(model, "an initializer", outside)
    _session(model)


def _widen(source: Source, _: Sandbox) -> None:
    """A sparse weight, which onnxruntime makes dense."""
    model, _metadata = parts(source)
    values, indices = helper.make_tensor("s", 1, [1], [1.0]), helper.make_tensor("i", 7, [1], [3])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [MANY]))
    model.graph.node.append(helper.make_node("Shape", ["s"], ["unused"]))
    _session(model)


def _fold(source: Source, _: Sandbox) -> None:
    """A constant that is computed while loading."""
    model, _metadata = parts(source)
    sizes = (("size", np.array([MANY])), ("one", np.ones(1, np.float32)))
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in sizes)
    for node in model.graph.node:
        node.input[:] = ["bias" if name == BIAS else name for name in node.input]
    for node in (
        helper.make_node("Add", [BIAS, "sum"], ["bias"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Expand", ["one", "size"], ["big"]),
    ):
        model.graph.node.insert(0, node)
    _session(model)


def _inline(source: Source, _: Sandbox) -> None:
    """Functions that call functions: a few bytes, thousands of nodes."""
    model, _metadata = parts(source)
    billion_laughs(model, 7)
    _session(model)


def _read_elsewhere(_source: Source, _: Sandbox) -> None:
    Path("/etc/passwd").read_bytes()


def _start_a_process(_source: Source, _: Sandbox) -> None:
    subprocess.run(["true"], check=True)


def _run_code(_source: Source, _: Sandbox) -> None:
    exec(compile("1", "elsewhere", "exec"))


UNPROTECTED_LOADERS: dict[str, Callable[[Source, Sandbox], Any]] = {
    "unpickling": _unpickle,
    "external data": _read_beside,
    "a sparse weight": _widen,
    "folding": _fold,
    "inlining": _inline,
    "another file": _read_elsewhere,
    "a process": _start_a_process,
    "code": _run_code,
}

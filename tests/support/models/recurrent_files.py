"""Small recurrent ONNX files with unequal sizes, right or with one fault, written as exporters write them."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
WIDTH, HIDDEN, CLASSES = 4, 3, 2
AXES = ("time", "batch", WIDTH)


def weights(operator: str = "LSTM", width: int = WIDTH, hidden: int = HIDDEN) -> dict[str, np.ndarray]:
    """W, R and B of one layer of one direction, large enough that a lost state shows."""
    random, rows = np.random.default_rng(1), GATES[operator] * hidden
    shapes = {"W": (1, rows, width), "R": (1, rows, hidden), "B": (1, 2 * rows)}
    return {name: random.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def value(name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray],
    opset: int = 17,
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "network", inputs, outputs, tensors)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    onnx.checker.check_model(model)
    return model


def recurrent_model(
    operator: str = "LSTM",
    states: Sequence[tuple[str, str]] = (("h", "hn"), ("c", "cn")),
    axes: Sequence[int | str] = AXES,
    opset: int = 17,
) -> onnx.ModelProto:
    """One recurrent node and a projection: `x` [time, batch, 4] to `y` [time, batch, 2].

    Args:
        operator: LSTM, GRU or RNN.
        states: Names of the state inputs and of the outputs after them, [1, batch, 3]; of a GRU and RNN one pair.
        axes: The declared shape of `x`.
        opset: Operator set.
    """
    pairs = list(states)[: 2 if operator == "LSTM" else 1]
    time, batch, _ = axes
    constants = {**weights(operator), "P": weights(operator)["R"][0, :HIDDEN, :CLASSES].copy(), "axis": np.array([1])}
    nodes = [
        helper.make_node(
            operator,
            ["x", "W", "R", "B", "", *(name for name, _ in pairs)],
            ["whole", *(name for _, name in pairs)],
            name="layer",
            hidden_size=HIDDEN,
        ),
        helper.make_node("Squeeze", ["whole", "axis"], ["flat"]),
        helper.make_node("MatMul", ["flat", "P"], ["y"]),
    ]
    inputs = [value("x", axes), *(value(name, (1, batch, HIDDEN)) for name, _ in pairs)]
    outputs = [value("y", (time, batch, CLASSES)), *(value(name, (1, batch, HIDDEN)) for _, name in pairs)]
    return model_of(nodes, inputs, outputs, constants, opset)

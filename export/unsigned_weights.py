"""int8 weights as uint8: the same integer products, exact on every processor.

x86-64 without VNNI multiplies uint8 activations by int8 weights and sums pairs of products in 16 bits, which overflow;
uint8 times uint8 does not. onnxruntime's `session.x64quantprecision` makes the same change at load, but only with graph
optimizations, and not for QLinearMatMul from opset 21 on.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ..runtime.errors import ArtifactError
from .foreign.foreign_model import all_graphs, all_nodes

_WEIGHTS = {
    "DynamicQuantizeLSTM": ((1, 9), (2, 11)),
    "DynamicQuantizeMatMul": ((1, 3),),
    "MatMulInteger": ((1, 3),),
    "MatMulIntegerToFloat": ((1, 5),),
    "QAttention": ((1, 7),),
    "QGemm": ((3, 5),),
    "QLinearMatMul": ((3, 5),),
}
"""Operator -> positions of its weights and of their zero point among its inputs."""

_ACTIVATION_ZERO_POINT = {"MatMulIntegerToFloat": 4, "QAttention": 6, "QGemm": 2, "QLinearMatMul": 2}
"""Operator -> position of the zero point of its activations, where int8 activations need int8 weights."""


def unsigned_weights(data: bytes) -> bytes:
    """Give the integer products of an ONNX file uint8 weights instead of int8 ones.

    Weights and zero points grow by 128, so that each product stays the same. Products of int8 activations do not
    overflow and stay as they are.

    Raises:
        ArtifactError: The graph computes weights that may be int8.
    """
    model = onnx.load_model_from_string(data)
    nodes = [node for node in all_nodes(model) if node.op_type in _WEIGHTS]
    if not nodes:
        return data
    constants = _constants(model)
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    types = {value.name: value.type.tensor_type.elem_type for value in inferred}
    types |= {name: tensor.data_type for name, tensor in constants.items()}
    for node in nodes:
        activation = _ACTIVATION_ZERO_POINT.get(node.op_type, len(node.input))
        if activation < len(node.input) and types.get(node.input[activation]) == TensorProto.INT8:
            continue
        for weight, zero_point in _WEIGHTS[node.op_type]:
            name = node.input[weight]
            if name in constants and types[name] == TensorProto.INT8:
                node.input.extend([""] * (zero_point + 1 - len(node.input)))
                for position in (weight, zero_point):
                    node.input[position] = _add_unsigned(model.graph, constants, node.input[position])
            elif types.get(name) != TensorProto.UINT8:
                raise ArtifactError(
                    f"its {node.op_type} {node.name!r} has weights {name!r} that the graph computes, expected uint8 or "
                    "constants, as int8 may overflow; verify it against its run or another artifact"
                )
    rewritten: bytes = model.SerializeToString()
    return rewritten


def _constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Initializers and Constant nodes, those of nested graphs among them: name -> value."""
    constants = {tensor.name: tensor for graph in all_graphs(model) for tensor in graph.initializer}
    for node in all_nodes(model):
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    return constants


def _add_unsigned(graph: onnx.GraphProto, constants: Mapping[str, onnx.TensorProto], constant: str) -> str:
    """Add a constant plus 128 as uint8 to the graph, 128 where there is none; returns its name."""
    name = f"{constant}.uint8"
    if all(tensor.name != name for tensor in graph.initializer):
        signed = numpy_helper.to_array(constants[constant]) if constant else np.zeros((), np.int8)
        graph.initializer.append(numpy_helper.from_array(np.asarray(signed ^ -128).view(np.uint8), name))
    return name

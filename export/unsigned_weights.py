"""int8 weights as uint8: the same integer products, exact on every processor.

x86-64 without VNNI multiplies uint8 activations by int8 weights and sums pairs of products in 16 bits, which overflow;
uint8 times uint8 does not. onnxruntime's `session.x64quantprecision` makes the same change at load, but only with graph
optimizations, and not for QLinearMatMul from opset 21 on.
"""

from typing import final

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
    rewriter = _Rewriter(model)
    for node in nodes:
        rewriter.rewrite(node)
    rewritten: bytes = model.SerializeToString()
    return rewritten


@final
class _Rewriter:
    """Adds uint8 copies of int8 constants to a model and lets nodes read them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._initializers = model.graph.initializer
        self._constants = _constants(model)
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self._computed = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}

    def rewrite(self, node: onnx.NodeProto) -> None:
        activation = self._constant(node, _ACTIVATION_ZERO_POINT.get(node.op_type))
        if activation is not None and activation.data_type == TensorProto.INT8:
            return
        for weight, zero_point in _WEIGHTS[node.op_type]:
            tensor = self._constant(node, weight)
            if tensor is None:
                self._require_unsigned(node, node.input[weight])
            elif tensor.data_type == TensorProto.INT8:
                node.input.extend([""] * (zero_point + 1 - len(node.input)))
                node.input[zero_point] = self._unsigned(node.input[zero_point])
                node.input[weight] = self._unsigned(node.input[weight])

    def _constant(self, node: onnx.NodeProto, position: int | None) -> onnx.TensorProto | None:
        if position is None or position >= len(node.input):
            return None
        return self._constants.get(node.input[position])

    def _require_unsigned(self, node: onnx.NodeProto, name: str) -> None:
        if self._computed.get(name) != TensorProto.UINT8:
            raise ArtifactError(
                f"its {node.op_type} {node.name!r} has weights {name!r} that the graph computes, expected constants or "
                "uint8: int8 products overflow on x86-64 without VNNI; verify it against its run or another artifact"
            )

    def _unsigned(self, constant: str) -> str:
        """Add a constant plus 128 as uint8 to the graph, 128 for none; returns its name."""
        name = f"{constant}.uint8"
        if name not in self._constants:
            signed = numpy_helper.to_array(self._constants[constant]) if constant else np.zeros((), np.int8)
            unsigned = numpy_helper.from_array(np.asarray(signed ^ -128).view(np.uint8), name)
            self._constants[name] = unsigned
            self._initializers.append(unsigned)
        return name


def _constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Initializers and Constant nodes, those of nested graphs among them: name -> value."""
    constants = {tensor.name: tensor for graph in all_graphs(model) for tensor in graph.initializer}
    for node in all_nodes(model):
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    return constants

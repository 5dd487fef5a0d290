"""The artifact's graph in int8: static scales, standard operators, the same numbers in every batch and chunking.

Hidden states lie in (-1, 1), so products read them in uint8 at the scale 1/127, without calibration. The embedding has
one scale. Weights are int8 with a scale for each gate unit and each word of the projection; see `int8_matrix`. Sums of
integers are exact, so no result depends on the order of summation. One Scan runs the step of all layers, so a token
meets the same nodes alone and in a sequence. States stay in float32.

onnxruntime fuses the nodes of a product if a Mul node combines both scales and constants are not folded.
"""

from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from ..runtime.artifact.architecture import Architecture
from ..runtime.artifact.artifact import LOGITS, NEXT
from .graph_builder import GraphBuilder
from .int8_matrix import LARGEST, ZERO_POINT, Int8Matrix
from .weights import LayerWeights, Weights

_SCALE, _ZERO_POINT = "activation_scale", "activation_zero_point"
_ACTIVATIONS = [_SCALE, _ZERO_POINT]

_STEPS = {
    "lstm": (
        ("quantize", "hidden", "quantized_hidden"),
        ("Concat", "input quantized_hidden", "joined"),
        ("product", "joined weights", "gates"),
        ("Split", "gates thirds_and_rest", "opening content"),
        ("Sigmoid", "opening", "opened"),
        ("Split", "opened thirds", "input_gate output_gate forget_gate"),
        ("Tanh", "content", "candidate"),
        ("Mul", "forget_gate cell", "remembered"),
        ("Mul", "input_gate candidate", "added"),
        ("Add", "remembered added", "next_cell"),
        ("Tanh", "next_cell", "squashed"),
        ("Mul", "output_gate squashed", "next_hidden"),
        ("quantize", "next_hidden", "output"),
    ),
    "gru": (
        ("quantize", "hidden", "quantized_hidden"),
        ("product", "input weights", "input_gates"),
        ("product", "quantized_hidden recurrent_weights", "hidden_gates"),
        ("Split", "input_gates halves_and_rest", "input_opening input_content"),
        ("Split", "hidden_gates halves_and_rest", "hidden_opening hidden_content"),
        ("Add", "input_opening hidden_opening", "opening"),
        ("Sigmoid", "opening", "opened"),
        ("Split", "opened halves", "update_gate reset_gate"),
        ("Mul", "reset_gate hidden_content", "reset_content"),
        ("Add", "input_content reset_content", "content"),
        ("Tanh", "content", "candidate"),
        ("Sub", "hidden candidate", "difference"),
        ("Mul", "update_gate difference", "remembered"),
        ("Add", "candidate remembered", "next_hidden"),
        ("quantize", "next_hidden", "output"),
    ),
    "rnn": (
        ("quantize", "hidden", "quantized_hidden"),
        ("Concat", "input quantized_hidden", "joined"),
        ("product", "joined weights", "content"),
        ("Tanh", "content", "next_hidden"),
        ("quantize", "next_hidden", "output"),
    ),
}
"""Cell -> operator, inputs and outputs of each node of a layer's step; `product` and `quantize` are `_Int8Graph`'s."""

_SIZES = {"thirds_and_rest": (3, 1), "thirds": (1, 1, 1), "halves_and_rest": (2, 1), "halves": (1, 1)}
"""Sizes of a Split's outputs -> multiples of the hidden size."""


def build_int8_graph(architecture: Architecture, weights: Weights, opset: int) -> onnx.ModelProto:
    """Build the int8 model of the artifact's contract, without metadata.

    Args:
        architecture: Cell and sizes.
        weights: All weights; the projection is not tied to the embedding.
        opset: ONNX operator set.
    """
    return _Int8Graph(architecture, weights).model(opset)


@final
class _Int8Graph:
    """The nodes around the Scan, and its body."""

    def __init__(self, architecture: Architecture, weights: Weights) -> None:
        self._architecture = architecture
        self._weights = weights
        self._graph = GraphBuilder(architecture, len(weights.embedding))

    def model(self, opset: int) -> onnx.ModelProto:
        self._graph.constant(_SCALE, np.array(1 / LARGEST, np.float32))
        self._graph.constant(_ZERO_POINT, np.array(ZERO_POINT, np.uint8))
        outputs = self._scan(self._embedding())
        assert self._weights.projection is not None
        projection = Int8Matrix.of(self._weights.projection)
        self._matrix("projection", projection, self._weights.bias)
        self._graph.add(_product(self._graph.kept_positions(outputs), "projection", LOGITS))
        return self._graph.model(opset)

    @property
    def _embedding_scale(self) -> float:
        return float(np.abs(self._weights.embedding).max()) / LARGEST or 1.0

    def _embedding(self) -> str:
        """Add the vectors of the tokens, uint8 [time, batch, embedding]."""
        integers = np.rint(self._weights.embedding / self._embedding_scale) + ZERO_POINT
        table = self._graph.constant("embedding", integers.astype(np.uint8))
        return self._graph.node("Gather", [table, self._graph.tokens()], "embedded", axis=0)

    def _scan(self, embedded: str) -> str:
        """Add the recurrent layers, outputs uint8 [time, batch, hidden]; last states become outputs of the graph."""
        states = list(self._architecture.states)
        following = [f"{NEXT}{name}" for name in states]
        self._graph.nodes("Scan", [*states, embedded], [*following, "outputs"], body=self._body(), num_scan_inputs=1)
        return "outputs"

    def _body(self) -> onnx.GraphProto:
        """One step of all layers: states and uint8 [batch, embedding] become next states and uint8 [batch, hidden]."""
        nodes: list[NodeProto] = []
        activations = "token_vector"
        for index, layer in enumerate(self._weights.layers):
            self._layer_constants(index, layer)
            nodes += _step_nodes(self._architecture.cell, index, activations)
            activations = f"layer_{index}.output"
        nodes.append(helper.make_node("Identity", [activations], ["step_output"]))
        states = self._architecture.states
        inputs = [_rows(_in_step(name), TensorProto.FLOAT, width) for name, width in states.items()]
        inputs.append(_rows("token_vector", TensorProto.UINT8, self._architecture.embedding_size))
        outputs = [_rows(_in_step(name, NEXT), TensorProto.FLOAT, width) for name, width in states.items()]
        outputs.append(_rows("step_output", TensorProto.UINT8, self._architecture.layer_sizes[-1]))
        return helper.make_graph(nodes, "step", inputs, outputs)

    def _layer_constants(self, index: int, layer: LayerWeights) -> None:
        """Add the products' weights, which read activations at the scale 1/127, and the sizes of the Splits."""
        inputs, recurrence = layer.input[0].T, layer.recurrence[0].T
        if index == 0:
            inputs = inputs * np.float32(self._embedding_scale * LARGEST)
        biases = layer.bias[0].reshape(2, -1)
        if self._architecture.cell == "gru":
            self._matrix(f"layer_{index}.weights", Int8Matrix.of(inputs), biases[0])
            self._matrix(f"layer_{index}.recurrent_weights", Int8Matrix.of(recurrence), biases[1])
        else:
            joined = np.concatenate([inputs, recurrence])
            self._matrix(f"layer_{index}.weights", Int8Matrix.of(joined), biases.sum(axis=0))
        for name in {name for _, names, _ in _STEPS[self._architecture.cell] for name in names.split()} & set(_SIZES):
            sizes = np.array(_SIZES[name], np.int64) * len(recurrence)
            self._graph.constant(f"layer_{index}.{name}", sizes)

    def _matrix(self, name: str, matrix: Int8Matrix, bias: NDArray[np.float32]) -> None:
        self._graph.constant(name, matrix.integers)
        self._graph.constant(f"{name}.scales", matrix.scales)
        self._graph.constant(f"{name}.bias", bias)


def _in_step(state: str, prefix: str = "") -> str:
    """The name within the step of a state of the artifact: `cell_0` is `layer_0.cell`."""
    kind, _, index = state.rpartition("_")
    return f"layer_{index}.{prefix}{kind}"


def _step_nodes(cell: str, index: int, activations: str) -> Iterator[NodeProto]:
    """The nodes of a layer's step, which reads uint8 `activations`."""

    def full(names: str) -> list[str]:
        return [activations if name == "input" else f"layer_{index}.{name}" for name in names.split()]

    for operator, inputs, outputs in _STEPS[cell]:
        if operator == "product":
            yield from _product(*full(inputs), *full(outputs))
        elif operator == "quantize":
            yield helper.make_node("QuantizeLinear", [*full(inputs), *_ACTIVATIONS], full(outputs))
        else:
            axis: dict[str, Any] = {"axis": 1} if operator in ("Concat", "Split") else {}
            yield helper.make_node(operator, full(inputs), full(outputs), **axis)


def _product(activations: str, matrix: str, output: str) -> Sequence[NodeProto]:
    """The nodes that multiply uint8 [..., inputs] by an int8 matrix and add its bias: float32 [..., outputs]."""
    integers, numbers, scale, scaled = (f"{output}.{name}" for name in ("integers", "numbers", "scale", "scaled"))
    return (
        helper.make_node("MatMulInteger", [activations, matrix, _ZERO_POINT], [integers]),
        helper.make_node("Cast", [integers], [numbers], to=TensorProto.FLOAT),
        helper.make_node("Mul", [_SCALE, f"{matrix}.scales"], [scale]),
        helper.make_node("Mul", [numbers, scale], [scaled]),
        helper.make_node("Add", [scaled, f"{matrix}.bias"], [output]),
    )


def _rows(name: str, kind: int, width: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["batch", width])

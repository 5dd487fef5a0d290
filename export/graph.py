"""The artifact's graph in float32 or float16, written node by node.

Nothing is traced and no axis is frozen; weights are plain initializers.

Tokens are gathered time-major, as the recurrent operators expect them, and each layer is one node. Before the output
projection, the most expensive part, a Slice drops the positions whose logits are not requested.
"""

from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from ..runtime.artifact.architecture import Architecture
from ..runtime.artifact.artifact import LOGITS, NEXT
from .graph_builder import GraphBuilder
from .weights import Weights

_OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {"linear_before_reset": 1}),  # torch resets after the recurrent product
    "rnn": ("RNN", {"activations": ["Tanh"]}),
}


def build_graph(architecture: Architecture, weights: Weights, opset: int, *, half: bool = False) -> onnx.ModelProto:
    """Build the model of the artifact's contract, without metadata.

    Args:
        architecture: Cell and sizes.
        weights: All weights.
        opset: ONNX operator set.
        half: Store weights and compute in float16; inputs and outputs stay float32.
    """
    return _FloatGraph(architecture, weights, half).model(opset)


@final
class _FloatGraph:
    """The graph in float32, or with weights and computation in float16."""

    def __init__(self, architecture: Architecture, weights: Weights, half: bool) -> None:
        self._architecture = architecture
        self._weights = weights
        self._half = half
        self._graph = GraphBuilder()

    def model(self, opset: int) -> onnx.ModelProto:
        table = self._weight("embedding", self._weights.embedding)
        activations = self._graph.node("Gather", [table, self._graph.tokens()], "embedded", axis=0)
        for index in range(len(self._weights.layers)):
            activations = self._layer(index, activations)
        self._projection(self._graph.kept_positions(activations))
        return self._graph.model(self._architecture, len(self._weights.embedding), opset)

    def _layer(self, index: int, activations: str) -> str:
        """Add a recurrent layer, outputs [time, batch, hidden]; its last states become outputs of the graph."""
        weights = self._weights.layers[index]
        constants = [
            self._weight(f"layer_{index}.{name}", value)
            for name, value in (("W", weights.input), ("R", weights.recurrence), ("B", weights.bias))
        ]
        names = [name for name in ("hidden", "cell") if f"{name}_{index}" in self._architecture.states]
        states = [self._initial_state(f"{name}_{index}") for name in names]
        outputs = [f"layer_{index}.directions", *(f"layer_{index}.last_{name}" for name in names)]
        operator, attributes = _OPERATORS[self._architecture.cell]
        attributes = {**attributes, "hidden_size": self._architecture.layer_sizes[index], "name": f"layer_{index}"}
        self._graph.nodes(operator, [activations, *constants, "", *states], outputs, **attributes)
        for name, last in zip(names, outputs[1:], strict=True):
            self._next_state(f"{name}_{index}", last)
        return self._graph.node("Squeeze", [outputs[0], self._graph.axis(1)], f"layer_{index}.outputs")

    def _initial_state(self, name: str) -> str:
        """Add the state input as recurrent operators expect it, [1, batch, hidden]."""
        state = self._graph.node("Cast", [name], f"{name}.half", to=TensorProto.FLOAT16) if self._half else name
        return self._graph.node("Unsqueeze", [state, self._graph.axis(0)], f"initial_{name}")

    def _next_state(self, name: str, last: str) -> None:
        """Add the graph's output [batch, hidden] of an operator's output [1, batch, hidden]."""
        output = f"{NEXT}{name}"
        self._as_float(self._graph.node("Squeeze", [last, self._graph.axis(0)], self._inner(output)), output)

    def _projection(self, activations: str) -> None:
        bias = self._weight("projection.bias", self._weights.bias)
        if self._weights.projection is None:
            logits = self._tied_projection(activations, bias)
        else:
            matrix = self._weight("projection.weight", self._weights.projection)
            product = self._graph.node("MatMul", [activations, matrix], "projected")
            logits = self._graph.node("Add", [product, bias], self._inner(LOGITS))
        self._as_float(logits, LOGITS)

    def _tied_projection(self, activations: str, bias: str) -> str:
        """Add a Gemm over all rows: it reads the embedding as it is; a MatMul would store it transposed as well."""
        vocabulary, width = self._weights.embedding.shape
        row = self._graph.constant("row", np.array([-1, width], np.int64))
        rows = self._graph.node("Reshape", [activations, row], "kept_rows")
        product = self._graph.node("Gemm", [rows, "embedding", bias], "projected", transB=1)
        batch_and_kept = self._graph.node("Shape", [activations], "batch_and_kept", start=0, end=2)
        count = self._graph.constant("word_count", np.array([vocabulary], np.int64))
        shape = self._graph.node("Concat", [batch_and_kept, count], "logits_shape", axis=0)
        return self._graph.node("Reshape", [product, shape], self._inner(LOGITS))

    def _weight(self, name: str, value: NDArray[np.float32]) -> str:
        return self._graph.constant(name, value.astype(np.float16) if self._half else value)

    def _inner(self, output: str) -> str:
        """The name of an output before its cast to float32; without a cast, the output's own name."""
        return f"{output}.half" if self._half else output

    def _as_float(self, inner: str, output: str) -> None:
        if self._half:
            self._graph.node("Cast", [inner], output, to=TensorProto.FLOAT)

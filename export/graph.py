"""The artifact's graph, written node by node: no tracing, no frozen axis, weights as plain initializers.

Tokens are gathered time-major, as the recurrent operators expect them, and each layer is one node. Before the output
projection, the most expensive part, a Slice drops the positions whose logits are not requested.
"""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..runtime.artifact.architecture import Architecture
from ..runtime.artifact.artifact import LOGITS, LOGITS_TO_KEEP, NEXT, TOKEN_IDS
from .weights import Weights

IR_VERSION = 8
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
    return _GraphBuilder(architecture, weights, half).model(opset)


@final
class _GraphBuilder:
    """Nodes and initializers of a graph in the making."""

    def __init__(self, architecture: Architecture, weights: Weights, half: bool) -> None:
        self._architecture = architecture
        self._weights = weights
        self._half = half
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def model(self, opset: int) -> onnx.ModelProto:
        activations = self._embedding()
        for index in range(len(self._weights.layers)):
            activations = self._layer(index, activations)
        self._projection(self._kept_positions(activations))
        initializers = list(self._initializers.values())
        graph = helper.make_graph(self._nodes, "language_model", self._inputs(), self._outputs(), initializers)
        imports = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, producer_name="lmtool")

    def _embedding(self) -> str:
        """Add the vectors of the tokens, [time, batch, embedding]."""
        table = self._weight("embedding", self._weights.embedding)
        time_major = self._node("Transpose", [TOKEN_IDS], "token_ids_time_major", perm=[1, 0])
        return self._node("Gather", [table, time_major], "embedded", axis=0)

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
        attributes = {**attributes, "hidden_size": self._architecture.layer_sizes[index]}
        inputs = [activations, *constants, "", *states]
        self._nodes.append(helper.make_node(operator, inputs, outputs, f"layer_{index}", **attributes))
        for name, last in zip(names, outputs[1:], strict=True):
            self._next_state(f"{name}_{index}", last)
        return self._node("Squeeze", [outputs[0], self._axis("axis_1", 1)], f"layer_{index}.outputs")

    def _initial_state(self, name: str) -> str:
        """Add the state input as recurrent operators expect it, [1, batch, hidden]."""
        state = self._node("Cast", [name], f"{name}.half", to=TensorProto.FLOAT16) if self._half else name
        return self._node("Unsqueeze", [state, self._axis("axis_0", 0)], f"initial_{name}")

    def _next_state(self, name: str, last: str) -> None:
        """Add the graph's output [batch, hidden] of an operator's output [1, batch, hidden]."""
        output = f"{NEXT}{name}"
        self._as_float(self._node("Squeeze", [last, self._axis("axis_0", 0)], self._inner(output)), output)

    def _kept_positions(self, activations: str) -> str:
        """Add a slice of the last `logits_to_keep` positions (0: all), [batch, kept, hidden]."""
        keep = self._constant(LOGITS_TO_KEEP, np.zeros(1, np.int64))
        start = self._node("Neg", [keep], "first_kept")
        end = self._constant("slice_end", np.array([np.iinfo(np.int64).max], np.int64))
        kept = self._node("Slice", [activations, start, end, self._axis("axis_0", 0)], "kept_time_major")
        return self._node("Transpose", [kept], "kept", perm=[1, 0, 2])

    def _projection(self, activations: str) -> None:
        bias = self._weight("projection.bias", self._weights.bias)
        if self._weights.projection is None:
            logits = self._tied_projection(activations, bias)
        else:
            matrix = self._weight("projection.weight", self._weights.projection)
            product = self._node("MatMul", [activations, matrix], "projected")
            logits = self._node("Add", [product, bias], self._inner(LOGITS))
        self._as_float(logits, LOGITS)

    def _tied_projection(self, activations: str, bias: str) -> str:
        """Add a Gemm over all rows: it reads the embedding as it is; a MatMul would store it transposed as well."""
        vocabulary, width = self._weights.embedding.shape
        rows = self._node("Reshape", [activations, self._constant("row", np.array([-1, width], np.int64))], "kept_rows")
        product = self._node("Gemm", [rows, "embedding", bias], "projected", transB=1)
        batch_and_kept = self._node("Shape", [activations], "batch_and_kept", start=0, end=2)
        count = self._constant("word_count", np.array([vocabulary], np.int64))
        shape = self._node("Concat", [batch_and_kept, count], "logits_shape", axis=0)
        return self._node("Reshape", [product, shape], self._inner(LOGITS))

    def _inner(self, output: str) -> str:
        """The name of an output before its cast to float32; without a cast, the output's own name."""
        return f"{output}.half" if self._half else output

    def _as_float(self, inner: str, output: str) -> None:
        if self._half:
            self._node("Cast", [inner], output, to=TensorProto.FLOAT)

    def _inputs(self) -> list[onnx.ValueInfoProto]:
        states = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
            for name, width in self._architecture.states.items()
        ]
        return [
            helper.make_tensor_value_info(TOKEN_IDS, TensorProto.INT64, ["batch", "time"]),
            *states,
            helper.make_tensor_value_info(LOGITS_TO_KEEP, TensorProto.INT64, [1]),
        ]

    def _outputs(self) -> list[onnx.ValueInfoProto]:
        shapes: dict[str, Sequence[str | int]] = {LOGITS: ["batch", "kept", len(self._weights.embedding)]}
        shapes |= {f"{NEXT}{name}": ["batch", width] for name, width in self._architecture.states.items()}
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    def _axis(self, name: str, value: int) -> str:
        return self._constant(name, np.array([value], np.int64))

    def _weight(self, name: str, value: NDArray[np.float32]) -> str:
        return self._constant(name, value.astype(np.float16) if self._half else value)

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

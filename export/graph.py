"""The artifact's graph, written node by node: no tracing, no frozen axis, weights as plain initializers.

Tokens are gathered time-major, because that is the LSTM operator's own layout; one LSTM node per layer; a Slice drops
the positions whose logits nobody asked for before the output projection, which is the most expensive part.
"""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..runtime.artifact import LOGITS, LOGITS_TO_KEEP, NEXT, TOKEN_IDS, Architecture
from .weights import Weights

IR_VERSION = 8


def build_graph(architecture: Architecture, weights: Weights, opset: int) -> onnx.ModelProto:
    """The fp32 model of the artifact's contract, without metadata."""
    return _GraphBuilder(architecture, weights).model(opset)


@final
class _GraphBuilder:
    """Collects nodes and initializers."""

    def __init__(self, architecture: Architecture, weights: Weights) -> None:
        self._architecture = architecture
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def model(self, opset: int) -> onnx.ModelProto:
        activations = self._embedding()
        for index in range(len(self._weights.layers)):
            activations = self._layer(index, activations)
        self._projection(self._kept_positions(activations))
        graph = helper.make_graph(self._nodes, "language_model", self._inputs(), self._outputs(), self._initializers)
        imports = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, producer_name="lmtool")

    def _embedding(self) -> str:
        """Vectors of the tokens, [time, batch, embedding]."""
        table = self._constant("embedding", self._weights.embedding)
        time_major = self._node("Transpose", [TOKEN_IDS], "token_ids_time_major", perm=[1, 0])
        return self._node("Gather", [table, time_major], "embedded", axis=0)

    def _layer(self, index: int, activations: str) -> str:
        """Outputs of one LSTM layer, [time, batch, hidden]; its last states become outputs of the graph."""
        weights = self._weights.layers[index]
        constants = [
            self._constant(f"layer_{index}.{name}", value)
            for name, value in (("W", weights.input), ("R", weights.recurrence), ("B", weights.bias))
        ]
        first, second = self._axis("axis_0", 0), self._axis("axis_1", 1)
        states = [
            self._node("Unsqueeze", [f"{name}_{index}", first], f"initial_{name}_{index}")
            for name in ("hidden", "cell")
        ]
        outputs = [f"layer_{index}.{name}" for name in ("Y", "Y_h", "Y_c")]
        hidden_size = self._architecture.layer_sizes[index]
        self._nodes.append(
            helper.make_node(
                "LSTM", [activations, *constants, "", *states], outputs, f"layer_{index}", hidden_size=hidden_size
            )
        )
        for name, last in zip(("hidden", "cell"), outputs[1:], strict=True):
            self._node("Squeeze", [last, first], f"{NEXT}{name}_{index}")
        return self._node("Squeeze", [outputs[0], second], f"layer_{index}.outputs")

    def _kept_positions(self, activations: str) -> str:
        """The last `logits_to_keep` positions (0: all), [batch, kept, hidden]: a slice from -k to the end."""
        keep = self._constant(LOGITS_TO_KEEP, np.zeros(1, np.int64))
        start = self._node("Neg", [keep], "first_kept")
        end = self._constant("slice_end", np.array([np.iinfo(np.int64).max], np.int64))
        kept = self._node("Slice", [activations, start, end, self._axis("axis_0", 0)], "kept_time_major")
        return self._node("Transpose", [kept], "kept", perm=[1, 0, 2])

    def _projection(self, activations: str) -> None:
        bias = self._constant("projection.bias", self._weights.bias)
        if self._weights.projection is not None:
            matrix = self._constant("projection.weight", self._weights.projection)
        else:
            matrix = self._node("Transpose", ["embedding"], "embedding_transposed", perm=[1, 0])
        product = self._node("MatMul", [activations, matrix], "projected")
        self._node("Add", [product, bias], LOGITS)

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

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        if name not in {tensor.name for tensor in self._initializers}:
            self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

"""The artifact's graph in int8: static scales, standard operators, the same numbers in every batch and chunking.

Hidden states lie in (-1, 1), so products read them in uint8 at the scale 1/127, without calibration. The embedding has
one scale. Weights are int8 with a scale for each gate unit and each word of the projection; see `int8_matrix`. Sums of
integers are exact, so no result depends on the order of summation. States stay in float32.

An If chooses between two forms of the layers, for one token and for a sequence; see `int8_layer`.
"""

from collections.abc import Mapping
from typing import final

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..runtime.artifact.architecture import Architecture
from ..runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS
from .graph_builder import GraphBuilder, batch_rows
from .int8_layer import Int8Layer
from .int8_matrix import LARGEST, ZERO_POINT, Int8Matrix
from .int8_product import add_activation_constants, add_matrix, product
from .weights import Weights

_OUTPUTS = "last_layer_outputs"


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
    """The embedding, the layers in both forms, and the projection."""

    def __init__(self, architecture: Architecture, weights: Weights) -> None:
        self._architecture = architecture
        self._weights = weights
        self._graph = GraphBuilder()
        # The rows of weights that read embeddings make up for their scale, which is not that of activations.
        self._embedding_scale = float(np.abs(weights.embedding).max()) / LARGEST or 1.0
        input_scales = [self._embedding_scale * LARGEST, *[1.0] * (len(weights.layers) - 1)]
        self._layers = [
            Int8Layer(architecture.cell, index, layer, scale)
            for index, (layer, scale) in enumerate(zip(weights.layers, input_scales, strict=True))
        ]

    def model(self, opset: int) -> onnx.ModelProto:
        add_activation_constants(self._graph)
        for layer in self._layers:
            layer.add_constants(self._graph)
        assert self._weights.projection is not None
        add_matrix(self._graph, "projection", Int8Matrix.of(self._weights.projection), self._weights.bias)
        product(self._graph, self._last_layer_outputs(), "projection", LOGITS)
        return self._graph.model(self._architecture, len(self._weights.embedding), opset)

    def _last_layer_outputs(self) -> str:
        """Add the layers, uint8 [batch, kept, hidden]; the last states become outputs of the graph."""
        integers = np.rint(self._weights.embedding / self._embedding_scale) + ZERO_POINT
        self._graph.constant("embedding", integers.astype(np.uint8))
        count = self._graph.node("Shape", [TOKEN_IDS], "token_count", start=1, end=2)
        is_one = self._graph.node("Equal", [count, self._graph.axis(1)], "is_one_token")
        outputs = [*(f"{NEXT}{name}" for name in self._architecture.states), _OUTPUTS]
        branches = {"then_branch": self._token_branch(), "else_branch": self._sequence_branch()}
        return self._graph.nodes("If", [is_one], outputs, **branches)[-1]

    def _token_branch(self) -> onnx.GraphProto:
        """The layers for one token."""
        graph = self._graph.inner("token.")
        token_ids = graph.node("Squeeze", [TOKEN_IDS, graph.axis(1)], "token_ids")
        activations = graph.node("Gather", ["embedding", token_ids], "embedded", axis=0)
        states: dict[str, str] = {}
        for layer in self._layers:
            activations, following = layer.token(graph, activations)
            states |= following
        return self._branch(graph, "one_token", states, graph.node("Unsqueeze", [activations, graph.axis(1)], "kept"))

    def _sequence_branch(self) -> onnx.GraphProto:
        """The layers for any number of tokens."""
        graph = self._graph.inner("sequence.")
        activations = graph.node("Gather", ["embedding", graph.tokens()], "embedded", axis=0)
        states: dict[str, str] = {}
        for layer in self._layers:
            activations, following = layer.sequence(graph, activations)
            states |= following
        return self._branch(graph, "sequence", states, graph.kept_positions(activations))

    def _branch(self, graph: GraphBuilder, name: str, states: Mapping[str, str], kept: str) -> onnx.GraphProto:
        widths = self._architecture.states.items()
        outputs = [batch_rows(states[state], TensorProto.FLOAT, width) for state, width in widths]
        kept_type: list[str | int] = ["batch", "kept", self._architecture.layer_sizes[-1]]
        return graph.graph(name, [], [*outputs, helper.make_tensor_value_info(kept, TensorProto.UINT8, kept_type)])

"""A recurrent layer in int8, in two forms that compute the same numbers: for one token, and for a sequence.

For one token one product reads its input and its hidden state together. In a sequence one product reads all inputs
before a Scan, which only reads hidden states; so the file holds these weights twice. The sums of both forms are the
same integers. What follows them are the same nodes, which no runtime fuses in one form alone. The gates of a GRU are
two products in both forms, as its reset gate multiplies the product with the hidden state.

onnxruntime packs the weights of a Scan's body only if the body holds them.
"""

from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from ..runtime.artifact.artifact import NEXT
from .graph_builder import GraphBuilder, batch_rows
from .int8_matrix import LARGEST, Int8Matrix
from .int8_product import add_matrix, integer_product, product, quantize, scaled
from .weights import LayerWeights

_CELLS = {
    "lstm": (
        ("Split", "gates thirds_and_rest", "opening content"),
        ("Sigmoid", "opening", "opened"),
        ("Split", "opened thirds", "input_gate output_gate forget_gate"),
        ("Tanh", "content", "candidate"),
        ("Mul", "forget_gate cell", "remembered"),
        ("Mul", "input_gate candidate", "added"),
        ("Add", "remembered added", "next_cell"),
        ("Tanh", "next_cell", "squashed"),
        ("Mul", "output_gate squashed", "next_hidden"),
    ),
    "gru": (
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
    ),
    "rnn": (("Tanh", "gates", "next_hidden"),),
}
"""Cell -> operator, inputs and outputs of each node from the gates to the next states."""

_SIZES = {"thirds_and_rest": (3, 1), "thirds": (1, 1, 1), "halves_and_rest": (2, 1), "halves": (1, 1)}
"""Sizes of a Split's outputs -> multiples of the hidden size."""

_Names = dict[str, str]
"""What a value is, as in `_CELLS` -> its name in the graph."""


@final
class Int8Layer:
    """One layer: its weights as integers, and its nodes."""

    def __init__(self, cell: str, index: int, weights: LayerWeights, input_scale: float) -> None:
        """Quantize the weights.

        Args:
            cell: lstm, gru or rnn.
            index: Position among the layers, from 0.
            weights: In float32.
            input_scale: Scale of the layer's inputs, in scales of activations.
        """
        inputs, recurrence = weights.input[0].T * np.float32(input_scale), weights.recurrence[0].T
        self._index = index
        self._cell = cell
        self._name = f"layer_{index}"
        self._states = ("cell", "hidden") if cell == "lstm" else ("hidden",)
        self._hidden_size = len(recurrence)
        self._biases: NDArray[np.float32] = weights.bias[0].reshape(2, -1)
        self._are_joined = cell != "gru"
        if self._are_joined:
            self._joined = Int8Matrix.of(np.concatenate([inputs, recurrence]))
            self._inputs, self._recurrence = self._joined.split(len(inputs))
        else:
            self._inputs, self._recurrence = Int8Matrix.of(inputs), Int8Matrix.of(recurrence)

    def add_constants(self, graph: GraphBuilder) -> None:
        """Add what both forms share."""
        if self._are_joined:
            graph.constant(f"{self._name}.weights", self._joined.integers)
            graph.constant(f"{self._name}.input_weights", self._inputs.integers)
            graph.constant(f"{self._name}.scales", self._joined.scales / np.float32(LARGEST))
            graph.constant(f"{self._name}.bias", self._biases.sum(axis=0))
        else:
            add_matrix(graph, f"{self._name}.input_weights", self._inputs, self._biases[0])
            add_matrix(graph, f"{self._name}.recurrent_weights", self._recurrence, self._biases[1])
        for name in {name for _, names, _ in _CELLS[self._cell] for name in names.split()} & set(_SIZES):
            graph.constant(f"{self._name}.{name}", np.array(_SIZES[name], np.int64) * self._hidden_size)

    def token(self, graph: GraphBuilder, activations: str) -> tuple[str, _Names]:
        """Add the layer for one token.

        Args:
            graph: The graph of this form.
            activations: The inputs, uint8 [batch, inputs].

        Returns:
            The name of the outputs, uint8 [batch, hidden], and state -> the name of its next value, float32 [batch,
            hidden].
        """
        states = {state: f"{state}_{self._index}" for state in self._states}
        quantized = quantize(graph, states["hidden"], f"{self._name}.quantized_hidden")
        gates = self._token_gates(graph, activations, quantized)
        output, following = self._step(graph, states, gates, f"{self._name}.")
        return output, dict(zip(states.values(), following, strict=True))

    def sequence(self, graph: GraphBuilder, activations: str) -> tuple[str, _Names]:
        """Add the layer for any number of tokens; as `token`, but [time, batch, inputs] and [time, batch, hidden]."""
        if self._are_joined:
            read = integer_product(graph, activations, f"{self._name}.input_weights", f"{self._name}.input_sums")
        else:
            read = product(graph, activations, f"{self._name}.input_weights", f"{self._name}.input_gates")
        states = [f"{state}_{self._index}" for state in self._states]
        outputs = [*(f"{self._name}.{NEXT}{state}" for state in self._states), f"{self._name}.outputs"]
        body = self._body(graph)
        *following, last = graph.nodes("Scan", [*states, read], outputs, body=body, num_scan_inputs=1)
        return last, dict(zip(states, following, strict=True))

    def _token_gates(self, graph: GraphBuilder, activations: str, quantized_hidden: str) -> _Names:
        name = self._name
        if not self._are_joined:
            return {
                "input_gates": product(graph, activations, f"{name}.input_weights", f"{name}.input_gates"),
                "hidden_gates": product(graph, quantized_hidden, f"{name}.recurrent_weights", f"{name}.hidden_gates"),
            }
        joined = graph.node("Concat", [activations, quantized_hidden], f"{name}.joined", axis=1)
        sums = integer_product(graph, joined, f"{name}.weights", f"{name}.sums")
        return {"gates": scaled(graph, sums, f"{name}.scales", f"{name}.bias", f"{name}.gates")}

    def _body(self, outer: GraphBuilder) -> onnx.GraphProto:
        """A step of a sequence: states and what was read of the input become next states and outputs."""
        name = f"step_{self._index}"
        graph = outer.inner(f"{name}.")
        states = {state: f"{name}.{state}" for state in self._states}
        read, weights = f"{name}.read", f"{name}.recurrent_weights"
        gates = self._step_gates(graph, read, quantize(graph, states["hidden"], "quantized_hidden"), weights)
        output, following = self._step(graph, states, gates)
        types = [TensorProto.FLOAT] * len(self._states)
        read_type = TensorProto.INT32 if self._are_joined else TensorProto.FLOAT
        width = self._hidden_size
        inputs = [*map(batch_rows, states.values(), types, [width] * len(types))]
        inputs.append(batch_rows(read, read_type, self._recurrence.integers.shape[1]))
        outputs = [*map(batch_rows, following, types, [width] * len(types))]
        outputs.append(batch_rows(output, TensorProto.UINT8, width))
        return graph.graph(name, inputs, outputs, [(weights, self._recurrence.integers)])

    def _step_gates(self, graph: GraphBuilder, read: str, quantized_hidden: str, weights: str) -> _Names:
        name = self._name
        if not self._are_joined:
            hidden = product(graph, quantized_hidden, f"{name}.recurrent_weights", "hidden_gates", weights)
            return {"input_gates": read, "hidden_gates": hidden}
        hidden = integer_product(graph, quantized_hidden, weights, "hidden_sums")
        sums = graph.node("Add", [hidden, read], "sums")
        return {"gates": scaled(graph, sums, f"{name}.scales", f"{name}.bias", "gates")}

    def _step(self, graph: GraphBuilder, states: _Names, gates: _Names, prefix: str = "") -> tuple[str, list[str]]:
        """Add the nodes from the gates on; returns the names of the outputs and of each next state."""
        names = {**states, **gates}
        for operator, inputs, outputs in _CELLS[self._cell]:
            full = [names.get(name, f"{self._name}.{name}") for name in inputs.split()]
            made = [f"{prefix}{name}" for name in outputs.split()]
            axis: dict[str, Any] = {"axis": 1} if operator == "Split" else {}
            names |= zip(outputs.split(), graph.nodes(operator, full, made, **axis), strict=True)
        output = quantize(graph, names[f"{NEXT}hidden"], f"{prefix}output")
        return output, [names[f"{NEXT}{state}"] for state in self._states]

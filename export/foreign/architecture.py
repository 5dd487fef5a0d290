"""What a graph from elsewhere says of its network: cell, embedding, tying, precision. None of it changes what runs."""

from collections.abc import Iterator
from typing import final

import onnx
from onnx import TensorProto

from ...runtime.artifact.artifact import TOKEN_IDS, Architecture
from .contract import Fit

_INTEGER_OPERATORS = (
    "QuantizeLinear",
    "DequantizeLinear",
    "Integer",
    "QLinear",
    "DynamicQuantize",
    "QGemm",
    "QAttention",
)
_BLOCK_OPERATORS = ("MatMulNBits", "GatherBlockQuantized")
_HALF = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
_HIDDEN_ONLY = {"GRU": "gru", "RNN": "rnn"}


@final
class Deduction:
    """A model read for its facts."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Read `model`, its shapes inferred."""
        self._graph = model.graph
        self._nodes = all_nodes(model)
        self._types = _constant_types(model)

    @property
    def precision(self) -> str:
        """One of `PRECISIONS`: the coarsest of what operators and weights compute in.

        Nothing is known of how a file was quantized: it is held to the bounds of the precision that its operators make.
        bfloat16 counts as `fp16`, the other half precision.
        """
        bits = {_attribute(node, "bits", 4) for node in self._nodes if node.op_type in _BLOCK_OPERATORS}
        integers = any(part in node.op_type for node in self._nodes for part in _INTEGER_OPERATORS)
        casts = {_attribute(node, "to", TensorProto.FLOAT) for node in self._nodes if node.op_type == "Cast"}
        if bits and min(bits) < 8:
            return "w4"
        if integers:
            return "int8"
        if bits:
            return "w8"
        return "fp16" if not _HALF.isdisjoint(casts | self._types) else "fp32"

    def architecture(self, fit: Fit) -> Architecture:
        """Cell and sizes. What the graph does not tell is the plainest that fits: `rnn`, as wide as the first layer."""
        table = self._table()
        width = None if table is None else self._shapes().get(table, (0, 0))[1]
        readers = [node for node in self._graph.node if table in node.input]
        return Architecture(
            cell="lstm" if fit.has_cells else self._hidden_only_cell(),
            embedding_size=width or fit.layer_sizes[0],
            layer_sizes=fit.layer_sizes,
            tied=any(node.op_type != "Gather" for node in readers),
        )

    def _hidden_only_cell(self) -> str:
        found = (_HIDDEN_ONLY[node.op_type] for node in self._nodes if node.op_type in _HIDDEN_ONLY)
        return next(found, "rnn")

    def embedding_rows(self) -> int | None:
        """How many tokens have a vector; None where the graph does not tell."""
        table = self._table()
        return None if table is None else self._shapes().get(table, (0, 0))[0] or None

    def _table(self) -> str | None:
        """The matrix whose rows the token ids choose."""
        ids, shapes = {TOKEN_IDS}, self._shapes()
        for node in self._graph.node:
            if node.op_type == "Gather" and node.input[1] in ids and node.input[0] in shapes:
                return str(node.input[0])
            if ids.intersection(node.input) and node.op_type != "Gather":
                ids.update(node.output)
        return None

    def _shapes(self) -> dict[str, tuple[int, int]]:
        """The matrices of fixed size: name -> rows and columns."""
        found = {tensor.name: tuple(tensor.dims) for tensor in self._graph.initializer}
        for value in self._graph.value_info:
            found[value.name] = tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        return {name: (shape[0], shape[1]) for name, shape in found.items() if len(shape) == 2 and min(shape) > 0}


def all_graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and those nested in it, outer ones first."""
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        yield graph
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            pending += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def all_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes of all graphs."""
    return [node for graph in all_graphs(model) for node in graph.node]


def _constant_types(model: onnx.ModelProto) -> set[int]:
    """ONNX's types of all initializers and of all tensors in attributes."""
    attributes = [attribute for node in all_nodes(model) for attribute in node.attribute]
    tensors = [tensor for graph in all_graphs(model) for tensor in graph.initializer]
    tensors += [tensor for attribute in attributes for tensor in (attribute.t, *attribute.tensors)]
    return {tensor.data_type for tensor in tensors}


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)

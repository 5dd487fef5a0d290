"""Infers states, cell, sizes and precision of a foreign graph; nothing here changes the nodes that run."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import final

import onnx
from onnx import TensorProto, helper

from ...runtime.artifact.architecture import Architecture, state_names
from ...runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS
from ...runtime.session.contract import TensorType, contract_error

_INTEGER_OPERATORS = re.compile(r"QuantizeLinear|DequantizeLinear|Integer|QLinear|DynamicQuantize|QGemm|QAttention")
_BLOCK_OPERATORS = ("MatMulNBits", "GatherBlockQuantized")
_HALF = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
_HIDDEN_ONLY = {"GRU": "gru", "RNN": "rnn"}
_STATE = re.compile(rf"(?:{NEXT})?(cell|hidden)_(0|[1-9]\d{{0,2}})")


@final
class ForeignModel:
    """A model from elsewhere that names its inputs and outputs as the contract does.

    Attributes:
        inputs: Name of each input without a default -> its type.
        optional_inputs: Name of each input with a default -> its type.
        outputs: Name of each output -> its type.
        states: Name of each state -> its width, or a name for a width that the graph leaves open.
        vocabulary_size: Last axis of the logits, or a name for it where the graph leaves it open.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Read `model`, with inferred shapes; a size that it declares in one place is declared in all."""
        self._graph = model.graph
        self._nodes = all_nodes(model)
        self._types = _constant_types(model)
        tensors = tensor_types([*model.graph.input, *model.graph.output])
        self.states = _states(tensors)
        self.vocabulary_size = _width(tensors, LOGITS) or "vocabulary"
        declare_sizes(model.graph, self.states, self.vocabulary_size)
        defaults = {tensor.name for tensor in model.graph.initializer}
        self.inputs = tensor_types(value for value in model.graph.input if value.name not in defaults)
        self.optional_inputs = tensor_types(value for value in model.graph.input if value.name in defaults)
        self.outputs = tensor_types(model.graph.output)

    @property
    def precision(self) -> str:
        """Its bounds suit the coarsest type in which operators and weights compute.

        bfloat16 counts as `fp16`, the other half precision.
        """
        bits = {_attribute(node, "bits", 4) for node in self._nodes if node.op_type in _BLOCK_OPERATORS}
        integers = any(_INTEGER_OPERATORS.search(node.op_type) for node in self._nodes)
        casts = {_attribute(node, "to", TensorProto.FLOAT) for node in self._nodes if node.op_type == "Cast"}
        if bits and min(bits) < 8:
            return "w4"
        if integers:
            return "int8"
        if bits:
            return "w8"
        return "fp16" if not _HALF.isdisjoint(casts | self._types) else "fp32"

    @property
    def architecture(self) -> Architecture:
        """Cell and sizes; where the graph does not tell, `rnn`, and an embedding as wide as the first layer.

        A GRU in int8 has no GRU node.

        Raises:
            ArtifactError: The graph leaves the width of a layer open.
        """
        names = sorted((name for name in self.states if name.startswith("hidden")), key=lambda name: int(name[7:]))
        sizes = tuple(self._layer_size(name) for name in names)
        embedding = self._embedding()
        readers = [] if embedding is None else [node for node in self._graph.node if embedding[0] in node.input]
        hidden_only = (_HIDDEN_ONLY[node.op_type] for node in self._nodes if node.op_type in _HIDDEN_ONLY)
        return Architecture(
            cell="lstm" if "cell_0" in self.states else next(hidden_only, "rnn"),
            embedding_size=sizes[0] if embedding is None else embedding[1][1],
            layer_sizes=sizes,
            tied=any(node.op_type != "Gather" for node in readers),
        )

    @property
    def embedding_rows(self) -> int | None:
        """The number of tokens that have a vector; None where the graph does not tell."""
        embedding = self._embedding()
        return None if embedding is None else embedding[1][0]

    def _layer_size(self, name: str) -> int:
        width = self.states[name]
        if isinstance(width, str):
            raise contract_error("input", name, self.inputs[name], "a number as its last axis", self.inputs)
        return width

    def _embedding(self) -> tuple[str, tuple[int, int]] | None:
        """Name and shape of the embedding: the matrix from which the token ids gather rows."""
        ids, shapes = {TOKEN_IDS}, self._shapes()
        for node in self._nodes:
            if node.op_type == "Gather" and node.input[1] in ids and node.input[0] in shapes:
                return node.input[0], shapes[node.input[0]]
            if ids.intersection(node.input) and node.op_type != "Gather":
                ids.update(node.output)
        return None

    def _shapes(self) -> dict[str, tuple[int, int]]:
        """The matrices of fixed size: name -> rows and columns."""
        shapes = {tensor.name: tuple(tensor.dims) for tensor in self._graph.initializer}
        for value in self._graph.value_info:
            shapes[value.name] = tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        return {name: (shape[0], shape[1]) for name, shape in shapes.items() if len(shape) == 2 and min(shape) > 0}


def declare_sizes(graph: onnx.GraphProto, states: Mapping[str, int | str], vocabulary_size: int | str) -> None:
    """Declare the last axes of states and logits that the graph leaves open, where they are known."""
    sizes = {LOGITS: vocabulary_size, **states, **{f"{NEXT}{name}": width for name, width in states.items()}}
    for value in (*graph.input, *graph.output):
        size, axes = sizes.get(value.name), value.type.tensor_type.shape.dim
        if isinstance(size, int) and axes and not axes[-1].HasField("dim_value"):
            axes[-1].dim_value = size


def _states(tensors: Mapping[str, TensorType]) -> dict[str, int | str]:
    """The states of each layer that a name mentions, and of one layer at least."""
    matches = [match for name in tensors if (match := _STATE.fullmatch(name))]
    layers = 1 + max((int(match[2]) for match in matches), default=0)
    cell = "lstm" if any(match[1] == "cell" for match in matches) else "rnn"
    widths: list[int | str] = []
    for layer in range(layers):
        names = [f"{prefix}{state}_{layer}" for prefix in ("", NEXT) for state in ("hidden", "cell")]
        known = (_width(tensors, name) for name in names)
        widths.append(next((width for width in known if width), f"size of layer {layer}"))
    return {name: widths[int(name.rpartition("_")[2])] for name in state_names(cell, layers)}


def _width(tensors: Mapping[str, TensorType], name: str) -> int | None:
    """The last axis of a tensor of rank 2 or 3 where it is fixed."""
    shape = tensors[name].shape if name in tensors else None
    return shape[-1] if shape is not None and len(shape) in (2, 3) and isinstance(shape[-1], int) else None


def tensor_types(values: Iterable[onnx.ValueInfoProto]) -> dict[str, TensorType]:
    """The name of each input or output -> its type."""
    return {value.name: _type(value) for value in values}


def _type(value: onnx.ValueInfoProto) -> TensorType:
    declared = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return TensorType(str(value.type.WhichOneof("value") or "untyped").removesuffix("_type"), None)
    try:
        dtype = helper.tensor_dtype_to_np_dtype(declared.elem_type).name
    except KeyError:
        dtype = f"type {declared.elem_type}"
    axes = tuple(axis.dim_value if axis.HasField("dim_value") else axis.dim_param for axis in declared.shape.dim)
    return TensorType(dtype, axes if declared.HasField("shape") else None)


def all_graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and those nested in it, outer ones first."""
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        yield graph
        pending += [inner for node in graph.node for inner in nested_graphs(node)]


def nested_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in a node: the branches of an If, the body of a loop."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


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

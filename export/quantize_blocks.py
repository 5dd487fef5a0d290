"""Weight-only quantization: weights in 8 or 4 bits, in blocks with one scale each.

The projection becomes onnxruntime's MatMulNBits, which scales activations row by row, so that a stream does not depend
on its neighbours. With 8 bits, wide LSTM layers use it too: a Scan over time replaces the LSTM, and the products of all
inputs are computed before it at once. Such a file runs in onnxruntime only.
"""

from collections.abc import Iterator
from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .errors import ExportError

BLOCK_SIZE = {8: 256, 4: 32}
"""Bits -> inputs of a product that share a scale. Smaller blocks are more exact and slower; see docs/results.md."""

WIDE = 512
"""Smallest hidden size of the LSTM layers that are quantized; at this size no call is slower, see docs/results.md."""

_DOMAIN = "com.microsoft"
_INT8_ACTIVATIONS = 4  # accuracy level: products of 8-bit integers, several times faster than the default
_STEP = (
    ("Add", "recurrent input_gates", "gates"),
    ("Split", "gates opening_and_content", "opening content"),
    ("Sigmoid", "opening", "opened"),
    ("Split", "opened thirds", "input_gate output_gate forget_gate"),
    ("Tanh", "content", "candidate"),
    ("Mul", "forget_gate cell", "remembered"),
    ("Mul", "input_gate candidate", "added"),
    ("Add", "remembered added", "next_cell"),
    ("Tanh", "next_cell", "squashed"),
    ("Mul", "output_gate squashed", "next_hidden"),
    ("Identity", "next_hidden", "output"),
)
"""Operator, inputs, outputs: one time step of an LSTM after its gate products."""


def quantize_weights(model: onnx.ModelProto, bits: int) -> onnx.ModelProto:
    """A copy of `model` with the projection, an untied MatMul, in 8 or 4 bits.

    With 8 bits, LSTM layers of `WIDE` units or more are quantized too.

    Raises:
        ExportError: The model has no such projection.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _Rewriter(copy.graph, bits).rewrite()
    copy.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return copy


@final
class _Rewriter:
    """Replaces products and wide layers of a graph by nodes with the same inputs and outputs."""

    def __init__(self, graph: onnx.GraphProto, bits: int) -> None:
        self._graph = graph
        self._bits = bits
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}

    def rewrite(self) -> None:
        nodes = [new for node in self._graph.node for new in self._replaced(node)]
        count = sum(node.op_type == "MatMulNBits" and node.name == "projection" for node in nodes)
        if count != 1:
            raise ExportError(f"the graph has {count} projections to quantize, expected 1")
        for field, values in ((self._graph.node, nodes), (self._graph.initializer, self._initializers.values())):
            kept: list[Any] = list(values)
            del field[:]
            field.extend(kept)

    def _replaced(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        if node.op_type == "MatMul" and node.input[1] == "projection.weight":
            yield self._product("projection", node.input[0], self._pop_initializer(node.input[1]).T, node.output[0])
        elif self._bits == 8 and node.op_type == "LSTM" and self._hidden_size(node) >= WIDE:
            yield from self._layer(node)
        else:
            yield node

    def _hidden_size(self, layer: onnx.NodeProto) -> int:
        return int(self._initializers[layer.input[2]].dims[2])

    def _layer(self, layer: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """The nodes that compute an LSTM's outputs, [time, 1, batch, hidden] and twice [1, batch, hidden]."""
        name, inputs = layer.name, layer.input
        input_weight, recurrence, biases = (self._pop_initializer(inputs[index])[0] for index in (1, 2, 3))
        bias = self._constant(f"{name}.bias", biases.reshape(2, -1).sum(axis=0))
        product, gates = f"{name}.product", f"{name}.input_gates"
        yield self._product(f"{name}.input", inputs[0], input_weight, product)
        yield helper.make_node("Add", [product, bias], [gates])
        states, lasts = [[f"{name}.{kind}_{state}" for state in ("hidden", "cell")] for kind in ("first", "scanned")]
        for initial, state in zip(inputs[5:7], states, strict=True):
            yield helper.make_node("Squeeze", [initial, "axis_0"], [state])
        outputs, step = f"{name}.scanned", self._step(name, recurrence)
        yield helper.make_node("Scan", [*states, gates], [*lasts, outputs], name, body=step, num_scan_inputs=1)
        yield helper.make_node("Unsqueeze", [outputs, "axis_1"], [layer.output[0]])
        for last, output in zip(lasts, layer.output[1:], strict=True):
            yield helper.make_node("Unsqueeze", [last, "axis_0"], [output])

    def _step(self, name: str, recurrence: NDArray[np.float32]) -> onnx.GraphProto:
        """One time step: states and input gates (i, o, f, c) become next states and the output."""
        size = recurrence.shape[1]
        nodes = [self._product(f"{name}.recurrence", "hidden", recurrence, "recurrent")]
        for operator, inputs, outputs in _STEP:
            axis: dict[str, Any] = {"axis": 1} if operator == "Split" else {}
            nodes.append(helper.make_node(operator, inputs.split(), outputs.split(), **axis))
        widths = {"hidden": size, "cell": size, "input_gates": 4 * size}
        return helper.make_graph(
            nodes,
            "step",
            [_rows(value, width) for value, width in widths.items()],
            [_rows(value, size) for value in ("next_hidden", "next_cell", "output")],
            [_integers("opening_and_content", 3 * size, size), _integers("thirds", size, size, size)],
        )

    def _product(self, name: str, activations: str, weight: NDArray[np.float32], output: str) -> onnx.NodeProto:
        """A product of activations [..., columns] and the transposed weight [rows, columns]."""
        packed, scales = pack_blocks(weight, self._bits)
        inputs = [activations, self._constant(f"{name}.packed", packed), self._constant(f"{name}.scales", scales)]
        return helper.make_node(
            "MatMulNBits",
            inputs,
            [output],
            name,
            domain=_DOMAIN,
            K=weight.shape[1],
            N=weight.shape[0],
            bits=self._bits,
            block_size=BLOCK_SIZE[self._bits],
            accuracy_level=_INT8_ACTIVATIONS,
        )

    def _pop_initializer(self, name: str) -> NDArray[np.float32]:
        """Remove an initializer from the graph and return its value."""
        return numpy_helper.to_array(self._initializers.pop(name))

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name


def _rows(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])


def _integers(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def pack_blocks(weight: NDArray[np.float32], bits: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Quantize the rows of a matrix in blocks, as MatMulNBits reads them (with its default zero point, the middle).

    The entry of a block with the largest magnitude becomes the lowest integer, so that the whole range is used.

    Args:
        weight: [rows, columns]; columns are padded with zeros to whole blocks.
        bits: 8 or 4.

    Returns:
        uint8 [rows, blocks, block size * bits / 8], two 4-bit numbers in a byte, the first one in the low bits; scales,
        float32 [rows * blocks].
    """
    block, middle = BLOCK_SIZE[bits], 2 ** (bits - 1)
    rows, columns = weight.shape
    blocks = -(-columns // block)
    padded = np.zeros((rows, blocks * block), np.float32)
    padded[:, :columns] = weight
    grouped = padded.reshape(rows, blocks, block)
    largest = np.take_along_axis(grouped, np.abs(grouped).argmax(axis=2)[..., None], axis=2)
    scales = np.where(largest == 0, 1, largest / -middle).astype(np.float32)
    integers = np.clip(np.rint(grouped / scales) + middle, 0, 2 * middle - 1).astype(np.uint8)
    if bits == 4:
        integers = integers[..., 0::2] | (integers[..., 1::2] << 4)
    return integers, scales.reshape(-1)

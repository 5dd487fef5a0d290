"""Quantized artifacts: dynamic int8 by onnxruntime's quantizer, and weight-only 8- and 4-bit projections of our own.

Dynamic int8 (DynamicQuantizeLSTM, MatMulInteger) scales activations at run time over the whole tensor. Weight-only
projections (MatMulNBits) keep the weights in blocks along the hidden axis, each with a scale of its own, and scale
activations row by row, so a stream does not depend on its neighbours. All are onnxruntime's own operators: such a file
runs on onnxruntime's CPU provider only. Inputs and outputs stay float32.
"""

import contextlib
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from .errors import ExportError

BLOCK_SIZE = {8: 256, 4: 32}
"""Bits -> hidden units that share a scale. Smaller is more exact and slower; see bench/RESULTS.md."""

_PROJECTION_TYPES = {"throughput": QuantType.QInt8, "latency": QuantType.QUInt8}
"""Purpose -> integers of the projection. Many rows are faster with signed weights, one row on processors with AMX
with unsigned ones; see bench/RESULTS.md."""

_DOMAIN = "com.microsoft"
_INT8_ACTIVATIONS = 4  # accuracy level: products of 8-bit integers, several times faster than the default


def quantize_int8(model: onnx.ModelProto, purpose: str) -> onnx.ModelProto:
    """A copy of `model` with LSTMs, projection and embedding in dynamic int8, for one of `lmtool.runtime.PURPOSES`.

    Raises:
        ExportError: A recurrent layer or the projection was not quantized.
    """
    layers = _quantize(model, ("LSTM", "Gather"), QuantType.QInt8, per_channel=True)
    # One scale for all words: a scale for each costs a pass over the logits, which takes more than it gives.
    quantized = _quantize(layers, ("MatMul",), _PROJECTION_TYPES[purpose], per_channel=False)
    _require_quantized(model, quantized)
    return quantized


def _quantize(
    model: onnx.ModelProto, operators: tuple[str, ...], weight_type: QuantType, *, per_channel: bool
) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        with _quiet():
            quantize_dynamic(
                model,
                path,
                per_channel=per_channel,
                weight_type=weight_type,
                op_types_to_quantize=list(operators),
            )
        quantized = onnx.load(path)
    del quantized.metadata_props[:]
    return quantized


def quantize_projection(model: onnx.ModelProto, bits: int) -> onnx.ModelProto:
    """A copy of `model` whose projection, an untied MatMul, keeps its weights in 8 or 4 bits.

    Raises:
        ExportError: The model has no such projection.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    products = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] == "projection.weight"]
    if len(products) != 1:
        raise ExportError(f"the graph has {len(products)} projections to quantize, expected 1")
    tensor = next(found for found in graph.initializer if found.name == "projection.weight")
    weight = numpy_helper.to_array(tensor)
    packed, scales = pack_blocks(weight.T, bits)
    graph.initializer.remove(tensor)
    graph.initializer.extend(
        numpy_helper.from_array(value, f"projection.{name}") for name, value in (("packed", packed), ("scales", scales))
    )
    product = products[0]
    product.op_type, product.domain = "MatMulNBits", _DOMAIN
    product.input[1:] = ["projection.packed", "projection.scales"]
    attributes = {
        "K": weight.shape[0],
        "N": weight.shape[1],
        "bits": bits,
        "block_size": BLOCK_SIZE[bits],
        "accuracy_level": _INT8_ACTIVATIONS,
    }
    product.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    if _DOMAIN not in {imported.domain for imported in copy.opset_import}:
        copy.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return copy


def pack_blocks(weight: NDArray[np.float32], bits: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Quantize the rows of a matrix in blocks, as MatMulNBits reads them (its default zero point, the middle).

    The entry of a block that is largest in size becomes the lowest integer, which has no positive counterpart, so that
    the whole range is used.

    Args:
        weight: [rows, columns]; columns are padded with zeros to whole blocks.
        bits: 8 or 4.

    Returns:
        uint8 [rows, blocks, block size * bits / 8], two 4-bit numbers in a byte, the first one low; float32
        [rows * blocks] scales.
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


def _require_quantized(model: onnx.ModelProto, quantized: onnx.ModelProto) -> None:
    before = Counter(node.op_type for node in model.graph.node)
    after = Counter(node.op_type for node in quantized.graph.node)
    for operator, replacement in (("LSTM", "DynamicQuantizeLSTM"), ("MatMul", "MatMulInteger")):
        if before[operator] == 0 or after[replacement] != before[operator]:
            raise ExportError(
                f"int8 needs every {operator} as {replacement}: found {after[replacement]} of {before[operator]}; "
                "export --precision w8 or fp32 instead"
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer logs that it will not quantize the token ids, and advice for other graphs, as warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

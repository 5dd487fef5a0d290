"""Files as earlier versions exported them: int8 with dynamic scales, and projections of 8- and 4-bit weights."""

from pathlib import Path

import numpy as np
import onnx
from int8_schemes import dynamic_int8
from lmtool.export.build import seal
from lmtool.runtime.artifact.artifact import HASH_KEY
from onnx import helper, numpy_helper

_BLOCK = 32


def older_file(fp32: Path, precision: str, path: Path, purpose: str = "throughput") -> Path:
    """Write the artifact `fp32`, of an untied network, in a precision as it was exported earlier."""
    model = onnx.load(fp32)
    metadata = {entry.key: entry.value for entry in model.metadata_props if entry.key != HASH_KEY}
    metadata |= {"lmtool.precision": precision, "lmtool.batch_invariant": "false"}
    if precision == "int8":
        model = dynamic_int8(model, unsigned=purpose == "latency")
        metadata["lmtool.optimize_for"] = purpose
        del model.metadata_props[:]
    else:
        _pack_projection(model, int(precision[1:]))
    path.write_bytes(seal(model, metadata))
    return path


def _pack_projection(model: onnx.ModelProto, bits: int) -> None:
    """Replace the projection by onnxruntime's MatMulNBits, whose integers have their zero in the middle."""
    product = next(node for node in model.graph.node if node.op_type == "MatMul")
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == product.input[1])
    weight = numpy_helper.to_array(tensor).T
    rows, columns = weight.shape
    blocks = -(-columns // _BLOCK)
    grouped = np.zeros((rows, blocks * _BLOCK), np.float32)
    grouped[:, :columns] = weight
    grouped = grouped.reshape(rows, blocks, _BLOCK)
    middle = 2 ** (bits - 1)
    scales = (np.abs(grouped).max(axis=2) / (middle - 1)).astype(np.float32)
    integers = (np.rint(grouped / scales[..., None]) + middle).astype(np.uint8)
    if bits == 4:
        integers = integers[..., 0::2] | (integers[..., 1::2] << 4)
    names = ("packed", "scales")
    model.graph.initializer.remove(tensor)
    model.graph.initializer.extend(map(numpy_helper.from_array, (integers, scales.reshape(-1)), names))
    packed = helper.make_node(
        "MatMulNBits",
        [product.input[0], *names],
        [product.output[0]],
        domain="com.microsoft",
        K=columns,
        N=rows,
        bits=bits,
        block_size=_BLOCK,
    )
    product.CopyFrom(packed)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))

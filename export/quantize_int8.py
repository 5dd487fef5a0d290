"""Dynamic int8, by onnxruntime's quantizer.

DynamicQuantizeLSTM and MatMulInteger scale activations at run time over the whole tensor. DynamicQuantizeLSTM is
onnxruntime's own operator: such a file runs on onnxruntime's CPU provider only. Inputs and outputs stay float32.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from ..runtime.io.files import no_room, temporary_folder
from .errors import ExportError

_PROJECTION_TYPES = {"throughput": QuantType.QInt8, "latency": QuantType.QUInt8}
"""Purpose -> integer type of the projection. Many rows are faster with signed weights, one row on processors with AMX
with unsigned ones; see docs/results.md."""


def quantize_int8(model: onnx.ModelProto, purpose: str) -> onnx.ModelProto:
    """A copy of `model` with LSTMs, projection and embedding in dynamic int8, for one of `lmtool.runtime.PURPOSES`.

    Raises:
        ExportError: A recurrent layer or the projection was not quantized.
        StorageError: There is no room for temporary files.
    """
    layers = _quantize(model, ("LSTM", "Gather"), QuantType.QInt8, per_channel=True)
    # One scale for all words: a scale for each word costs a pass over the logits and gains less.
    quantized = _quantize(layers, ("MatMul",), _PROJECTION_TYPES[purpose], per_channel=False)
    _require_quantized(model, quantized)
    return quantized


def _quantize(
    model: onnx.ModelProto, operators: tuple[str, ...], weight_type: QuantType, *, per_channel: bool
) -> onnx.ModelProto:
    with temporary_folder() as folder, _quiet():
        path = folder / "int8.onnx"
        try:
            quantize_dynamic(
                model,
                path,
                per_channel=per_channel,
                weight_type=weight_type,
                op_types_to_quantize=list(operators),
            )
            quantized = onnx.load(path)
        except OSError as error:
            raise no_room(error) from error
    del quantized.metadata_props[:]
    return quantized


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
    """Silence the quantizer's warnings: token ids that it does not quantize, and advice for other graphs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

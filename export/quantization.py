"""Dynamic int8: LSTM and projection with 8-bit weights, activations scaled at run time, by onnxruntime's quantizer.

The result uses onnxruntime's own operators (DynamicQuantizeLSTM, MatMulInteger or its fusions), so it runs on
onnxruntime's CPU provider only. Inputs and outputs stay float32.
"""

import contextlib
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from .errors import ExportError


def quantize_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """An int8 copy of `model`, whose projection must be a MatMul.

    Raises:
        ExportError: A recurrent layer or the projection was not quantized.
    """
    layers = Counter(node.op_type for node in model.graph.node)["LSTM"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        with _quiet():
            quantize_dynamic(model, path, per_channel=True, weight_type=QuantType.QInt8)
        quantized = onnx.load(path)
    operators = Counter(node.op_type for node in quantized.graph.node)
    if operators["DynamicQuantizeLSTM"] != layers or operators["MatMulInteger"] != 1:
        raise ExportError(
            f"onnxruntime's quantizer left parts in fp32: found {operators['DynamicQuantizeLSTM']} of {layers} "
            f"DynamicQuantizeLSTM and {operators['MatMulInteger']} of 1 MatMulInteger; export --precision fp32 instead"
        )
    del quantized.metadata_props[:]
    return quantized


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer logs that it will not quantize the token ids, and advice for other graphs, as warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

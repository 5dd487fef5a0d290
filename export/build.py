"""Build the checked ONNX model of a network in a precision, and seal it with metadata and hash."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import onnx

from ..model.network import LanguageModel
from ..runtime.artifact.architecture import MOST_WEIGHT_BYTES
from ..runtime.artifact.artifact import (
    EARLIER_PRECISIONS,
    HASH_KEY,
    HASH_PLACEHOLDER,
    PRECISIONS,
    hash_span,
    hash_with_placeholder,
)
from ..runtime.errors import OptionError
from .errors import ExportError
from .graph import build_graph
from .int8_graph import build_int8_graph
from .weights import Weights

OPSETS = range(17, 22)
DEFAULT_OPSET = 17
FLOATING = ("fp32", "fp16")
"""Precisions that compute as the original does, in floating point."""


@final
@dataclass(frozen=True)
class BuildOptions:
    """The kind of model to build.

    Attributes:
        precision: One of `lmtool.runtime.PRECISIONS`.
        opset: ONNX operator set, 17 to 21.

    Raises:
        OptionError: A value is not known.
    """

    precision: str = "fp32"
    opset: int = DEFAULT_OPSET

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            hint = "; int8 replaces it" if self.precision in EARLIER_PRECISIONS else ""
            raise OptionError(
                f"precision {self.precision!r} is not exported, expected one of {', '.join(PRECISIONS)}{hint}"
            )
        if self.opset not in OPSETS:
            raise OptionError(
                f"opset is {self.opset}, expected {OPSETS[0]} to {OPSETS[-1]} "
                "(onnxruntime before 1.27 has no CUDA kernel of LSTM and RNN from 22 on)"
            )


def build_model(network: LanguageModel, options: BuildOptions) -> onnx.ModelProto:
    """Build the checked ONNX model of a network, without metadata.

    Raises:
        ExportError: The network is too large for one ONNX file.
    """
    size = sum(parameter.numel() for parameter in network.parameters()) * 4
    if size > MOST_WEIGHT_BYTES:
        raise ExportError(
            f"the network has {size:,} bytes of weights; one ONNX file holds at most {MOST_WEIGHT_BYTES:,}"
        )
    model = _build(network, options)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    return model


def _build(network: LanguageModel, options: BuildOptions) -> onnx.ModelProto:
    if options.precision == "int8":
        # The product with the embedding would need it transposed, so tied weights are stored twice.
        return build_int8_graph(network.architecture, Weights.of(network, untie=True), options.opset)
    return build_graph(network.architecture, Weights.of(network), options.opset, half=options.precision == "fp16")


def seal(model: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """Serialize a model with metadata and, under `lmtool.sha256`, the hash of the bytes.

    The same model and metadata give the same bytes.
    """
    sealed = onnx.ModelProto()
    sealed.CopyFrom(model)
    del sealed.metadata_props[:]
    for key, value in {**metadata, HASH_KEY: HASH_PLACEHOLDER}.items():
        sealed.metadata_props.add(key=key, value=value)
    data: bytes = sealed.SerializeToString(deterministic=True)
    start, end = hash_span(data)
    return data[:start] + hash_with_placeholder(data, start, end).encode() + data[end:]

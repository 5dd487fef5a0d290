"""Build the checked ONNX model of a network in a precision, and seal it with metadata and hash."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import onnx

from ..model.network import LanguageModel
from ..runtime.artifact.artifact import (
    HASH_KEY,
    HASH_PLACEHOLDER,
    PRECISIONS,
    PURPOSES,
    hash_span,
    hash_with_placeholder,
)
from ..runtime.errors import OptionError
from .errors import ExportError
from .graph import build_graph
from .quantize_blocks import quantize_weights
from .quantize_int8 import quantize_int8
from .weights import Weights

OPSETS = range(17, 22)
DEFAULT_OPSET = 17
_SIZE_LIMIT_BYTES = 2**31 - 2**24
STANDARD = ("fp32", "fp16")
"""Precisions that use standard operators only; the others use onnxruntime's."""


@final
@dataclass(frozen=True)
class BuildOptions:
    """The kind of model to build.

    Attributes:
        precision: One of `lmtool.runtime.PRECISIONS`.
        opset: ONNX operator set, 17 to 21.
        optimize_for: For int8, one of `lmtool.runtime.PURPOSES`; None for `throughput`.

    Raises:
        OptionError: A value is not known, or `optimize_for` is given for another precision than int8.
    """

    precision: str = "fp32"
    opset: int = DEFAULT_OPSET
    optimize_for: str | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise OptionError(f"precision {self.precision!r} is not known, expected one of {', '.join(PRECISIONS)}")
        if self.opset not in OPSETS:
            raise OptionError(
                f"opset is {self.opset}, expected {OPSETS[0]} to {OPSETS[-1]} (CUDA has no LSTM kernel from 22 on)"
            )
        if self.optimize_for is not None and self.optimize_for not in PURPOSES:
            raise OptionError(f"optimize_for is {self.optimize_for!r}, expected one of {', '.join(PURPOSES)}")
        if self.optimize_for is not None and self.precision != "int8":
            raise OptionError(f"{self.precision} has one graph for every purpose; optimize_for is for int8")

    @property
    def purpose(self) -> str | None:
        """The purpose of the graph; None where the precision has one graph for all purposes."""
        return (self.optimize_for or "throughput") if self.precision == "int8" else None


def build_model(network: LanguageModel, options: BuildOptions) -> onnx.ModelProto:
    """Build the checked ONNX model of a network, without metadata.

    Raises:
        ExportError: The network is too large for one ONNX file, or has layers that the precision does not support.
    """
    size = sum(parameter.numel() for parameter in network.parameters()) * 4
    if size > _SIZE_LIMIT_BYTES:
        raise ExportError(
            f"the network has {size:,} bytes of weights; one ONNX file holds at most {_SIZE_LIMIT_BYTES:,}"
        )
    model = _build(network, options)
    onnx.checker.check_model(model, full_check=True)
    domains = {node.domain for node in model.graph.node}
    assert options.precision not in STANDARD or domains == {""}
    return model


def _build(network: LanguageModel, options: BuildOptions) -> onnx.ModelProto:
    # Quantization changes the projection but not the embedding, so tied weights are stored twice.
    weights = Weights.of(network, untie=options.precision not in STANDARD)
    model = build_graph(network.architecture, weights, options.opset, half=options.precision == "fp16")
    if options.precision in STANDARD:
        return model
    if options.precision in ("w8", "w4"):
        return quantize_weights(model, bits=int(options.precision[1:]))
    assert options.purpose is not None
    return quantize_int8(model, options.purpose)


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

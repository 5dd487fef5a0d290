"""Finds weights in other files."""

from collections.abc import Iterator

from onnx import TensorProto

from ..finding import Finding
from ..subject import Subject, all_tensors
from ..trials import Trials


def check(subject: Subject, trials: Trials) -> Iterator[Finding]:
    """One finding for all tensors."""
    outside = [tensor.name for tensor in all_tensors(subject.model) if tensor.data_location == TensorProto.EXTERNAL]
    if outside:
        yield Finding(
            "external-data",
            ", ".join(outside[:3]) + (", ..." if len(outside) > 3 else ""),
            "the file needs another file beside it, and cannot be loaded from bytes; nothing was run",
            "put the weights inside: onnx.save_model(onnx.load('FILE'), 'OUT')",
        )

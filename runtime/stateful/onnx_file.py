"""Reads an ONNX file of any exporter, and says whether it computes in half precision."""

from pathlib import Path

from ..artifact import protobuf
from ..artifact.safety import TensorSpans
from ..errors import ArtifactError
from ..io.files import opened

_MOST_BYTES = 2**31 - 1
_DATA_TYPE, _HALF = 2, (10, 16)


def read_onnx_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        StorageError: It cannot be read.
        ArtifactError: It is larger than an ONNX file can be.
    """
    with opened(path) as file:
        size = file.seek(0, 2)
        if size > _MOST_BYTES:
            raise ArtifactError(
                f"{path} has {size:,} bytes, expected at most {_MOST_BYTES:,}: no ONNX file is larger; export the "
                "network in a smaller precision, or its recurrent part alone"
            )
        file.seek(0)
        return file.read()


def has_half_weights(spans: TensorSpans) -> bool:
    """Whether a tensor is float16 or bfloat16."""
    return any(
        field.number == _DATA_TYPE and field.value in _HALF
        for tensor in spans.tensors
        for field in protobuf.fields(spans.data, tensor.start, tensor.end)
    )

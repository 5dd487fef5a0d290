"""The backend `reference`: onnx's own evaluator, which implements the specification of the operators in numpy."""

from pathlib import Path
from typing import Any

from ...runtime.io.files import read_bytes
from ..errors import BenchError


def reference_evaluator(artifact: Path) -> Any:
    """The evaluator of a file, with `run(outputs, feed)`.

    Raises:
        StorageError: The file cannot be read.
        BenchError: The evaluator lacks an operator of it.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_model_from_string(read_bytes(artifact))
    try:
        return ReferenceEvaluator(model)
    except (RuntimeError, NotImplementedError) as error:
        raise BenchError(f"onnx.reference {onnx.__version__} cannot run {artifact}: {error}") from error

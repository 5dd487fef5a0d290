"""An ONNX file in onnxruntime on the CPU as it is: without the rewriting that makes it quick."""

from typing import Any

from ..runtime.errors import ArtifactError, first_words
from ..runtime.providers import import_onnxruntime

_ERRORS_ONLY = 3


def plain_session(data: bytes, threads: int = 1) -> Any:
    """A session over the bytes of a file that holds all of its weights.

    Raises:
        ProviderError: onnxruntime is missing.
        ArtifactError: It refuses the file.
    """
    onnxruntime = import_onnxruntime()
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _ERRORS_ONLY
    # What was checked is ONNX; onnxruntime would take bytes that look like its own format as that.
    settings.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ArtifactError(f"onnxruntime {onnxruntime.__version__} cannot load it: {first_words(error)}") from error

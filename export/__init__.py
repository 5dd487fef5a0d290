"""A checkpoint becomes one portable, verified ONNX artifact (needs torch, onnx and onnxruntime)."""

from .building import DEFAULT_OPSET, OPSETS, BuildOptions, build_model
from .errors import ExportError, ParityError
from .exporting import Export, export_run, held_out_tokens, verify_artifact, write_report
from .parity import BOUNDS, Bounds, Case, ParityReport
from .verification import measure_batch_invariance, verify

__all__ = [
    "BOUNDS",
    "DEFAULT_OPSET",
    "OPSETS",
    "Bounds",
    "BuildOptions",
    "Case",
    "Export",
    "ExportError",
    "ParityError",
    "ParityReport",
    "build_model",
    "export_run",
    "held_out_tokens",
    "measure_batch_invariance",
    "verify",
    "verify_artifact",
    "write_report",
]

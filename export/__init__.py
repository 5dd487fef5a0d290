"""Export a checkpoint as one portable, verified ONNX artifact (needs torch, onnx and onnxruntime).

The public names of references say `Original`, as reports and metadata do.
"""

from .build import DEFAULT_OPSET, OPSETS, BuildOptions, build_model
from .candidate import write_report
from .errors import ExportError, ParityError
from .exporter import Export, SherpaExport, export_run, export_sherpa, verify_artifact
from .exporter import reference_of as original_of
from .foreign.modules import export_module
from .formats.card import write_card
from .formats.hub import write_hub_folder
from .formats.triton import triton_config, write_triton_repository
from .graph_picture import draw_graph
from .parity import Case, Largest, ParityReport
from .reference import PredictorReference as PredictorOriginal
from .reference import Reference as Original
from .reference import Text
from .reference import TorchReference as TorchOriginal
from .tolerances import BOUNDS, Bounds
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
    "Largest",
    "Original",
    "ParityError",
    "ParityReport",
    "PredictorOriginal",
    "SherpaExport",
    "Text",
    "TorchOriginal",
    "build_model",
    "draw_graph",
    "export_module",
    "export_run",
    "export_sherpa",
    "measure_batch_invariance",
    "original_of",
    "triton_config",
    "verify",
    "verify_artifact",
    "write_card",
    "write_hub_folder",
    "write_report",
    "write_triton_repository",
]

"""Stacked-LSTM language models: trained in PyTorch, exported to ONNX, streamed with onnxruntime, benchmarked."""

import os

# onnxruntime 1.29 and newer keep a device id under HOME and report to their maker. They read this variable once, at
# their import, and this module is imported before every room. A value that is set already is kept.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

"""Stacked-LSTM language models: trained in PyTorch, exported to ONNX, streamed with onnxruntime, benchmarked."""

__version__ = "0.1.0"

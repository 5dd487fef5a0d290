"""Adopt ONNX files from elsewhere as artifacts."""

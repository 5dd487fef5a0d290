"""The artifact: one ONNX file, its contract and its metadata, read and checked without onnx."""

"""ONNX files from elsewhere that become artifacts."""

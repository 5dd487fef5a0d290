"""A recurrent ONNX file that is no language model, in the same harness: its inputs, backends and verification."""

"""The artifact in the forms of other programs: sherpa-onnx, Triton Inference Server."""

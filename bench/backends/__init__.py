"""Ways to run a model: onnxruntime, PyTorch, OpenVINO, node, the onnx evaluator."""

"""Any stateful ONNX file: its states as values, carried from call to call."""

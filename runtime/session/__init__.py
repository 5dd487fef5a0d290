"""The onnxruntime session of an artifact, on the host or on a device."""

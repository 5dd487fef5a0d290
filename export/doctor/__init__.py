"""Examines recurrent ONNX files of any exporter: what goes wrong when they are streamed, and how to mend it."""

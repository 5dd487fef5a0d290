"""Test vectors: inputs of an artifact and the outputs that a runtime must give."""

"""Test vectors: inputs of an artifact and expected outputs."""

"""Sealing: metadata goes into the model, and the hash of the whole file into the file."""

from collections.abc import Mapping

import onnx

from ..runtime.artifact import HASH_KEY, HASH_PLACEHOLDER, hash_span, hash_with_placeholder


def seal(model: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """The bytes of a copy of `model` with `metadata` and, under `lmtool.sha256`, their own hash.

    The same model and metadata give the same bytes.
    """
    sealed = onnx.ModelProto()
    sealed.CopyFrom(model)
    del sealed.metadata_props[:]
    for key, value in {**metadata, HASH_KEY: HASH_PLACEHOLDER}.items():
        sealed.metadata_props.add(key=key, value=value)
    data: bytes = sealed.SerializeToString(deterministic=True)
    start, end = hash_span(data)
    return data[:start] + hash_with_placeholder(data, start, end).encode() + data[end:]

"""An ONNX file from elsewhere that keeps the artifact's contract becomes an artifact; its graph stays as it is.

The copy has the numbers of the tokens as its vocabulary and records no training. Every runtime loads it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...model.foreign.tokens import numbered
from ...runtime.artifact.architecture import Architecture
from ...runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS, Artifact, artifact_metadata
from ...runtime.artifact.safety import find_tensors
from ...runtime.errors import ArtifactError, truncated
from ...runtime.io.files import read_bytes, write_atomically
from ...runtime.session.contract import require_contract
from ...runtime.session.session import plain_session
from ..build import seal
from .foreign_model import ForeignModel, declare_sizes

_TRIALS = ((1, 1), (2, 3))
"""Batch and time of the trial calls, which find the vocabulary's size and fixed axes that are declared as free."""

_SHOWN_CHARACTERS = 300


def adopt(path: Path, folder: Path) -> Path:
    """Return the file itself where it is an artifact, else a sealed copy of it in `folder`.

    Args:
        path: An ONNX file.
        folder: Where to write the copy; it must be there.

    Raises:
        StorageError: The file cannot be read, or the copy cannot be written.
        ArtifactError: It is a damaged artifact, is no ONNX file, has weights outside, sparse ones or local functions,
            breaks the contract (the message names the first input or output that differs), or does not run in every
            size of batch and time.
        ProviderError: onnxruntime is missing.
    """
    data = read_bytes(path)
    try:
        find_tensors(memoryview(data))
        model = _parsed(data)
        if any(entry.key.startswith("lmtool.") for entry in model.metadata_props):
            Artifact.parse(data)
            return path
        sealed = _sealed(model)
    except ArtifactError as error:
        raise ArtifactError(f"{path} ({len(data):,} bytes) cannot be used: {error}") from error
    copy = folder / f"{path.stem}.adopted.onnx"
    write_atomically(copy, sealed)
    return copy


def _parsed(data: bytes) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own error
        raise ArtifactError(f"it is no ONNX file, or is truncated or damaged: {truncated(error)}") from error


def _sealed(model: onnx.ModelProto) -> bytes:
    inferred = _inferred(model)
    foreign = ForeignModel(inferred)
    require_contract(foreign.inputs, foreign.optional_inputs, foreign.outputs, foreign.states, foreign.vocabulary_size)
    architecture = foreign.architecture
    size = _vocabulary_size(model.SerializeToString(), architecture, foreign.vocabulary_size)
    rows = foreign.embedding_rows
    if rows is not None and rows < size:
        raise ArtifactError(f"its embedding has {rows:,} rows for the {size:,} tokens of its logits, expected one each")
    declare_sizes(inferred.graph, architecture.states, size)
    for values, declared in ((model.graph.input, inferred.graph.input), (model.graph.output, inferred.graph.output)):
        del values[:]
        values.extend(declared)
    return seal(model, artifact_metadata(architecture, numbered(size), foreign.precision))


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its shapes inferred."""
    try:
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # of several kinds, among them ValueError for a file that is too large
        raise ArtifactError(f"onnx's checker refuses it: {_shortened(error)}") from error


def _vocabulary_size(data: bytes, architecture: Architecture, declared: int | str) -> int:
    """Run the graph to find the vocabulary's size where it is not declared, and to check the shapes of all outputs."""
    session, states = plain_session(data), architecture.states
    size = declared
    for batch, time in _TRIALS:
        feed: dict[str, Any] = {TOKEN_IDS: np.zeros((batch, time), np.int64)}
        feed |= {name: np.zeros((batch, width), np.float32) for name, width in states.items()}
        names = [LOGITS, *(f"{NEXT}{name}" for name in states)]
        try:
            outputs = session.run(names, feed)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ArtifactError(f"it does not run with token ids [{batch}, {time}]: {_shortened(error)}") from error
        size = size if isinstance(size, int) else outputs[0].size // (batch * time)
        shapes = [(batch, time, size), *((batch, width) for width in states.values())]
        for name, output, shape in zip(names, outputs, shapes, strict=True):
            if output.shape != shape:
                raise ArtifactError(
                    f"the output {name!r} breaks the contract: with token ids [{batch}, {time}] found "
                    f"{output.dtype} {list(output.shape)}, expected float32 {list(shape)}"
                )
    assert isinstance(size, int)
    return size


def _shortened(error: Exception) -> str:
    """The message in one line of at most 300 characters."""
    return truncated(" ".join(str(error).split()), _SHOWN_CHARACTERS)

"""Adopting: an ONNX file from elsewhere that keeps the artifact's contract becomes an artifact, its graph as it is.

The copy has a vocabulary of numbers and says nothing of a training or an original, and every runtime loads it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS, Architecture, Artifact, artifact_metadata
from ...runtime.artifact.safety import contained_weights
from ...runtime.errors import ArtifactError, truncated
from ...runtime.io.files import read_bytes, write_atomically
from ...runtime.session.session import plain_session
from ...runtime.tokenization import Tokenization
from ...runtime.vocabulary import Vocabulary
from ..build import seal
from .architecture import Deduction
from .contract import Fit, Tensor

_OURS = "lmtool."
_TRIALS = ((1, 1), (2, 3))
_SHOWN_CHARACTERS = 300


def adopt(path: Path, folder: Path) -> Path:
    """The file itself where it is an artifact, else a sealed copy of it in `folder`.

    Args:
        path: An ONNX file.
        folder: Where to write the copy; it must be there.

    Raises:
        StorageError: The file cannot be read, or the copy not be written.
        ArtifactError: It is a damaged artifact, is no ONNX file, has weights outside, sparse ones or local functions,
            breaks the contract (the message names the first input or output that differs), or does not run in every
            size of batch and time.
        ProviderError: onnxruntime is missing.
    """
    data = read_bytes(path)
    try:
        contained_weights(memoryview(data))
        model = _parsed(data)
        if any(entry.key.startswith(_OURS) for entry in model.metadata_props):
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
    inferred = _checked(model)
    deduction = Deduction(inferred)
    fit = Fit.of(inferred.graph)
    size = _vocabulary_size(model.SerializeToString(), fit)
    rows = deduction.embedding_rows()
    if rows is not None and rows < size:
        raise ArtifactError(f"its embedding has {rows:,} rows for the {size:,} tokens of its logits, expected as many")
    return seal(_declared(model, fit, size), _metadata(deduction.architecture(fit), size, deduction.precision))


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its shapes inferred."""
    try:
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # of several kinds, among them ValueError for a file that is too large
        raise ArtifactError(f"onnx's checker refuses it: {_short(error)}") from error


def _vocabulary_size(data: bytes, fit: Fit) -> int:
    """The number of tokens, found by running the graph; the axes that it declares as free have to be so."""
    session = plain_session(data)
    size = fit.vocabulary_size
    for batch, time in _TRIALS:
        feed: dict[str, Any] = {TOKEN_IDS: np.zeros((batch, time), np.int64)}
        widths = {name: tensor.width for name, tensor in fit.inputs.items() if name != TOKEN_IDS}
        feed.update({name: np.zeros((batch, width), np.float32) for name, width in widths.items() if width})
        try:
            outputs = session.run(list(fit.outputs), feed)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise ArtifactError(f"it does not run with token ids [{batch}, {time}]: {_short(error)}") from error
        found = dict(zip(fit.outputs, outputs, strict=True))
        size = size or found[LOGITS].shape[-1]
        expected: dict[str, tuple[int, ...]] = {LOGITS: (batch, time, size)}
        expected |= {f"{NEXT}{name}": (batch, width) for name, width in widths.items() if width}
        for name, shape in expected.items():
            if found[name].shape != shape:
                raise ArtifactError(
                    f"the output {name!r} breaks the contract: with token ids [{batch}, {time}] found "
                    f"{found[name].dtype} {list(found[name].shape)}, expected float32 {list(shape)}"
                )
    assert size is not None
    return size


def _declared(model: onnx.ModelProto, fit: Fit, vocabulary_size: int) -> onnx.ModelProto:
    """The model with the sizes that it leaves open declared."""
    logits = Tensor("float32", ("batch", "kept", vocabulary_size))
    known = {**fit.inputs, **fit.outputs, LOGITS: logits}
    for value in (*model.graph.input, *model.graph.output):
        if value.name in known:
            tensor, kind = known[value.name], value.type.tensor_type.elem_type
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, tensor.shape))
    return model


def _metadata(architecture: Architecture, vocabulary_size: int, precision: str) -> dict[str, str]:
    # The first token stands for what the graph knows nothing of: an unknown word, and a sentence's end.
    tokenization = Tokenization("whitespace", unknown="0", end_of_sentence="0")
    vocabulary = Vocabulary([str(number) for number in range(vocabulary_size)], tokenization)
    return artifact_metadata(architecture, vocabulary, precision)


def _short(error: Exception) -> str:
    """The message in one line that can be read."""
    text = " ".join(str(error).split())
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."

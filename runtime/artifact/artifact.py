"""The artifact: an lmtool ONNX file (format 1), the names in it, its metadata and its hash.

One file, weights inside. Inputs `token_ids` int64 [batch, time] and, for each layer k, `cell_k` (LSTM only) and
`hidden_k` float32 [batch, hidden size of layer k]; optional input `logits_to_keep` int64 [1]. Outputs `logits` float32
[batch, kept, vocabulary], `next_cell_k`, `next_hidden_k`. The file is read without onnx and before a session starts, so
that a damaged or foreign file is refused before any of it runs.
"""

import hashlib
import itertools
import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ..arguments import checked_bytes, checked_path, checked_text
from ..errors import ArtifactError, JsonError, VocabularyError
from ..io.files import read_bytes
from ..io.json_reader import LARGE_BYTES, MOST_BYTES, parse_json
from ..vocabulary import Vocabulary
from . import protobuf
from .architecture import Architecture
from .safety import find_tensors
from .weights import require_exact_products
from .weights import require_finite as require_finite_weights

FORMAT = "1"
"""The value of `lmtool.format` that this version writes and reads."""

PRECISIONS = ("fp32", "fp16", "int8")
"""`fp16` computes in half precision (for GPUs), `int8` in 8 bits with static scales. All use standard operators."""

EARLIER_PRECISIONS = ("w8", "w4")
"""What earlier versions wrote too: a projection of 8- or 4-bit weights. Their `int8` had dynamic scales."""

_STATIC = "static"
_PURPOSES = ("latency", "throughput")
"""Of an `int8` artifact with dynamic scales: one stream at a time, or many at once."""

TOKEN_IDS = "token_ids"  # noqa: S105
LOGITS = "logits"
LOGITS_TO_KEEP = "logits_to_keep"
NEXT = "next_"
"""The prefix of an output state, before the name of its input state."""

HASH_KEY = "lmtool.sha256"
HASH_PLACEHOLDER = "0" * 64
_PURPOSE_KEY = "lmtool.optimize_for"
_QUANTIZATION_KEY = "lmtool.quantization"

_METADATA = 14


@final
@dataclass(frozen=True)
class Artifact:
    """A checked lmtool ONNX file: its hash, format and metadata are valid.

    Attributes:
        sha256: The file's hash, with its own 64 digits taken as zeros.
        architecture: The network's cell and sizes.
        vocabulary: Tokens and tokenization.
        precision: One of `PRECISIONS` or `EARLIER_PRECISIONS`.
        is_static: Whether it is an `int8` artifact with static scales, of standard operators.
        optimize_for: `latency` or `throughput` for an `int8` artifact with dynamic scales, else None.
        batch_invariant: Whether results are independent of the other rows in a batch and of chunking.
        training: Corpus, seed, epochs and perplexities of the training.
        parity: Results of the verification at export.
    """

    sha256: str
    architecture: Architecture
    vocabulary: Vocabulary
    precision: str
    is_static: bool
    optimize_for: str | None
    batch_invariant: bool
    training: Mapping[str, Any]
    parity: Mapping[str, Any]

    @property
    def variant(self) -> str:
        """The precision, with its purpose where there is one: `fp32`, `int8-latency`."""
        return f"{self.precision}-latency" if self.optimize_for == "latency" else self.precision

    @property
    def is_of_earlier_version(self) -> bool:
        """Whether only earlier versions export such a file; a new export as `int8` is batch-invariant."""
        return self.precision in EARLIER_PRECISIONS or (self.precision == "int8" and not self.is_static)

    def invariant_instead(self, provider: str = "cpu") -> str:
        """What to use where an artifact must be batch-invariant on a provider and this one is not."""
        if provider != "cpu":
            return f"on {provider} any precision may depend on the batch size: run int8 or fp32 on provider cpu"
        if self.is_of_earlier_version:
            return f"this {self.precision} is of an earlier version: export again (lmtool export --precision int8)"
        if self.precision == "int8":
            return "use another precision (fp32)"
        return "use int8, which is batch-invariant on every processor (lmtool export --precision int8)"

    @classmethod
    def read(cls, path: Path | str) -> "Artifact":
        """Read and check a file.

        Raises:
            StorageError: The file cannot be read.
            ArtifactError: As for `parse`.
        """
        return cls.parse(read_bytes(checked_path("path", path)), str(path))

    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview, name: str = "the artifact") -> "Artifact":
        """Check a file's bytes; `name` stands for them in messages.

        Raises:
            ArtifactError: They are not an lmtool artifact, are damaged, have another format version, or hold a NaN or
                infinite weight.
        """
        data = checked_bytes("data", data)
        checked_text("name", name)
        try:
            metadata = _metadata(memoryview(data))
            _check_format(metadata)
            tensors = find_tensors(memoryview(data))
            sha256 = _checked_hash(data, metadata)
            require_finite_weights(tensors)
            is_static = _QUANTIZATION_KEY in metadata and _choice(metadata, _QUANTIZATION_KEY, (_STATIC,)) == _STATIC
            if is_static:
                require_exact_products(tensors)
            return cls(
                sha256=sha256,
                architecture=Architecture.from_json(_json(metadata, "lmtool.model")),
                vocabulary=_vocabulary(metadata),
                precision=_choice(metadata, "lmtool.precision", (*PRECISIONS, *EARLIER_PRECISIONS)),
                is_static=is_static,
                optimize_for=_choice(metadata, _PURPOSE_KEY, _PURPOSES) if _PURPOSE_KEY in metadata else None,
                batch_invariant=_choice(metadata, "lmtool.batch_invariant", ("true", "false")) == "true",
                training=_object(metadata, "lmtool.training"),
                parity=_parity(metadata),
            )
        except (ArtifactError, VocabularyError) as error:
            raise ArtifactError(f"{name} ({len(data):,} bytes) cannot be used: {error}") from error


def artifact_metadata(
    architecture: Architecture,
    vocabulary: Vocabulary,
    precision: str,
    *,
    is_static: bool = False,
    batch_invariant: bool = False,
    training: Mapping[str, Any] | None = None,
    parity: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """The metadata entries that `Artifact.parse` reads, without the hash."""
    quantization = {_QUANTIZATION_KEY: _STATIC} if is_static else {}
    return {
        **quantization,
        "lmtool.format": FORMAT,
        "lmtool.model": _compact_json(architecture.to_json()),
        "lmtool.vocabulary": vocabulary.tokens_json(),
        "lmtool.vocabulary_sha256": vocabulary.sha256,
        "lmtool.tokenization": _compact_json(vocabulary.tokenization.to_json()),
        "lmtool.training": _compact_json(dict(training or {})),
        "lmtool.precision": precision,
        "lmtool.batch_invariant": json.dumps(batch_invariant),
        "lmtool.parity": _compact_json(dict(parity or {})),
    }


def _compact_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def hash_with_placeholder(data: bytes, start: int, end: int) -> str:
    """SHA-256 of `data` with `data[start:end]` taken as ASCII zeros, as hexadecimal digits."""
    digest = hashlib.sha256(memoryview(data)[:start])
    digest.update(b"0" * (end - start))
    digest.update(memoryview(data)[end:])
    return digest.hexdigest()


def hash_span(data: bytes) -> tuple[int, int]:
    """Start and end of the 64 digits of the file's hash; ArtifactError if there is none."""
    entry = _metadata(memoryview(data)).get(HASH_KEY)
    if entry is None:
        raise ArtifactError(f"it has no {HASH_KEY}, so it was not exported by lmtool")
    return entry[1]


_Metadata = dict[str, tuple[str, tuple[int, int]]]


def _metadata(data: memoryview) -> _Metadata:
    """Each metadata key with its value and the span of the value's bytes."""
    metadata: _Metadata = {}
    for field in protobuf.fields(data):
        if field.number == _METADATA:
            parts = {part.number: part for part in itertools.islice(protobuf.fields(data, field.start, field.end), 3)}
            if set(parts) != {1, 2}:
                raise ArtifactError("a metadata entry is not a key and a value")
            key = protobuf.text(data, parts[1])
            if key in metadata:
                raise ArtifactError(f"the metadata key {reprlib.repr(key)} appears twice")
            metadata[key] = (protobuf.text(data, parts[2]), (parts[2].start, parts[2].end))
    return metadata


def _check_format(metadata: _Metadata) -> None:
    if "lmtool.format" not in metadata:
        raise ArtifactError("it has no lmtool.format, so it was not exported by lmtool (use: lmtool export)")
    version = metadata["lmtool.format"][0]
    if version != FORMAT:
        raise ArtifactError(
            f"its format is {reprlib.repr(version)}, this version of lmtool reads {FORMAT!r}; "
            f"upgrade lmtool or export again"
        )


def _checked_hash(data: bytes, metadata: _Metadata) -> str:
    declared = _string(metadata, HASH_KEY)
    sha256 = hash_with_placeholder(data, *metadata[HASH_KEY][1])
    if declared != sha256:
        raise ArtifactError(
            f"it is damaged: its bytes hash to {sha256[:12]}..., it declares {declared[:12]}...; "
            "copy or export it again"
        )
    return sha256


def _string(metadata: _Metadata, key: str) -> str:
    if key not in metadata:
        raise ArtifactError(f"its metadata lacks {key}")
    return metadata[key][0]


def _choice(metadata: _Metadata, key: str, choices: tuple[str, ...]) -> str:
    value = _string(metadata, key)
    if value not in choices:
        raise ArtifactError(f"its {key} is {reprlib.repr(value)}, expected one of {', '.join(choices)}")
    return value


def _json(metadata: _Metadata, key: str, most_bytes: int = MOST_BYTES) -> Any:
    try:
        return parse_json(_string(metadata, key), most_bytes)
    except JsonError as error:
        raise ArtifactError(f"its metadata {key} {error}") from error


def _object(metadata: _Metadata, key: str) -> dict[str, Any]:
    value = _json(metadata, key)
    if not isinstance(value, dict):
        raise ArtifactError(f"its metadata {key} is {type(value).__name__}, expected an object")
    return value


def _parity(metadata: _Metadata) -> dict[str, Any]:
    parity = _object(metadata, "lmtool.parity")
    if not isinstance(parity.get("original_sha256", ""), str):
        raise ArtifactError("its metadata lmtool.parity has an original_sha256 that is no text")
    return parity


def _vocabulary(metadata: _Metadata) -> Vocabulary:
    tokens = _json(metadata, "lmtool.vocabulary", LARGE_BYTES)
    vocabulary = Vocabulary.from_json(tokens, _json(metadata, "lmtool.tokenization", LARGE_BYTES))
    declared = _string(metadata, "lmtool.vocabulary_sha256")
    if declared != vocabulary.sha256:
        raise ArtifactError(f"its vocabulary hashes to {vocabulary.sha256[:12]}..., it declares {declared[:12]}...")
    return vocabulary

"""The artifact's contract (format 1): the names in an lmtool ONNX file, its metadata, and its hash.

One file, weights inside. Inputs `token_ids` int64 [batch, time] and, for each layer k, `cell_k` (LSTM only) and
`hidden_k` float32 [batch, hidden size of layer k]; optional input `logits_to_keep` int64 [1]. Outputs `logits` float32
[batch, kept, vocabulary], `next_cell_k`, `next_hidden_k`. Everything here is read without onnx and before a session is
made, so that a damaged or foreign file is refused before any of it runs.
"""

import hashlib
import itertools
import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ..errors import ArtifactError, JsonError, VocabularyError
from ..io.files import read_bytes
from ..io.json_reader import LARGE_BYTES, MOST_BYTES, parse_json
from ..vocabulary import Vocabulary
from . import protobuf
from .safety import contained_weights
from .weights import require_finite as require_finite_weights

FORMAT = "1"
"""The value of `lmtool.format` that this version writes and reads."""

PRECISIONS = ("fp32", "fp16", "int8", "w8", "w4")
"""`fp16` computes in half precision (for GPUs); `int8` quantizes LSTM and projection, dynamically; `w8` and `w4` keep
the projection's weights in 8 and 4 bits and the recurrent layers in fp32, but `w8` wide LSTM layers in 8 bits too."""

PURPOSES = ("latency", "throughput")
"""What an `int8` artifact is built for: one stream at a time, or many at once."""

TOKEN_IDS = "token_ids"  # noqa: S105
LOGITS = "logits"
LOGITS_TO_KEEP = "logits_to_keep"
NEXT = "next_"
"""An output state is named as its input state with this in front."""

HASH_KEY = "lmtool.sha256"
HASH_PLACEHOLDER = "0" * 64

CELLS = {"lstm": ("cell", "hidden"), "gru": ("hidden",), "rnn": ("hidden",)}
"""Recurrent cell -> its states. `rnn` is Elman's with tanh."""
_METADATA = 14
_MOST_LAYERS, _WIDEST = 1000, 2**24


def state_names(cell: str, layer_count: int) -> list[str]:
    """Names of the state inputs, sorted: `cell_0`, `cell_1`, ..., `hidden_0`, `hidden_1`, ..."""
    return sorted(f"{state}_{layer}" for state in CELLS[cell] for layer in range(layer_count))


@final
@dataclass(frozen=True)
class Architecture:
    """The network's cell and sizes.

    Attributes:
        cell: Recurrent cell of every layer: one of `CELLS`.
        embedding_size: Width of a token's vector.
        layer_sizes: Hidden size of each layer, first to last.
        tied: Whether embedding and output projection share one matrix.
    """

    cell: str
    embedding_size: int
    layer_sizes: tuple[int, ...]
    tied: bool

    @classmethod
    def from_json(cls, value: Any) -> "Architecture":
        """Read what `to_json` gave.

        Raises:
            ArtifactError: A field is missing, of another type or out of all proportion, or the cell is not known.
        """
        try:
            found = cls(value["cell"], value["embedding_size"], tuple(value["layer_sizes"]), value["tied"])
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"the model description lacks {error}; found {reprlib.repr(value)}") from error
        sizes = (found.embedding_size, *found.layer_sizes)
        is_sized = all(type(size) is int and 0 < size <= _WIDEST for size in sizes) and 1 < len(sizes) <= _MOST_LAYERS
        if not (is_sized and type(found.cell) is str and found.cell in CELLS and type(found.tied) is bool):
            raise ArtifactError(f"the model description is not one that this version reads: {reprlib.repr(value)}")
        return found

    def to_json(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return {
            "cell": self.cell,
            "embedding_size": self.embedding_size,
            "layer_sizes": list(self.layer_sizes),
            "tied": self.tied,
        }

    @property
    def states(self) -> dict[str, int]:
        """Name of each state tensor -> its width, in the artifact's sorted order."""
        names = state_names(self.cell, len(self.layer_sizes))
        return {name: self.layer_sizes[int(name.rpartition("_")[2])] for name in names}


@final
@dataclass(frozen=True)
class Artifact:
    """An lmtool ONNX file whose hash, format and metadata have been checked.

    Attributes:
        sha256: The file's hash, with its own 64 digits taken as zeros.
        architecture: The network's cell and sizes.
        vocabulary: Tokens and tokenization.
        precision: One of `PRECISIONS`.
        optimize_for: One of `PURPOSES`, or None where the precision has one graph for both.
        batch_invariant: Whether a stream's numbers depend neither on its neighbours in the batch nor on chunking.
        training: Corpus, seed, epochs and perplexities of the training, as recorded.
        parity: What the verification measured at export, as recorded.
    """

    sha256: str
    architecture: Architecture
    vocabulary: Vocabulary
    precision: str
    optimize_for: str | None
    batch_invariant: bool
    training: Mapping[str, Any]
    parity: Mapping[str, Any]

    @property
    def variant(self) -> str:
        """The precision, with its purpose where there is one: `fp32`, `int8-latency`."""
        return f"{self.precision}-latency" if self.optimize_for == "latency" else self.precision

    @classmethod
    def read(cls, path: Path | str) -> "Artifact":
        """Read and check a file.

        Raises:
            StorageError: The file cannot be read.
            ArtifactError: As for `parse`.
        """
        return cls.parse(read_bytes(Path(path)), str(path))

    @classmethod
    def parse(cls, data: bytes, name: str = "the artifact") -> "Artifact":
        """Check a file's bytes; `name` stands for them in messages.

        Raises:
            ArtifactError: They are no lmtool artifact, are damaged, have another format version, or a weight that is no
                finite number.
        """
        try:
            metadata = _metadata(memoryview(data))
            _check_format(metadata)
            weights = contained_weights(memoryview(data))
            sha256 = _checked_hash(data, metadata)
            require_finite_weights(weights)
            return cls(
                sha256=sha256,
                architecture=Architecture.from_json(_json(metadata, "lmtool.model")),
                vocabulary=_vocabulary(metadata),
                precision=_choice(metadata, "lmtool.precision", PRECISIONS),
                optimize_for=_optional(metadata, "lmtool.optimize_for", PURPOSES),
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
    optimize_for: str | None = None,
    batch_invariant: bool = False,
    training: Mapping[str, Any] | None = None,
    parity: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """The metadata entries from which `Artifact.parse` reads these fields; all but the hash."""
    purpose = {} if optimize_for is None else {"lmtool.optimize_for": optimize_for}
    return {
        **purpose,
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


def latest_artifact(runs: Path = Path("runs")) -> Path:
    """The youngest `.onnx` file in the run folders of `runs`.

    Raises:
        ArtifactError: There is none.
    """
    found = [path for path in runs.glob("*/*.onnx") if not path.name.startswith(".")]
    found.sort(key=lambda path: (path.stat().st_mtime_ns, path))
    if not found:
        raise ArtifactError(
            f"there is no exported model in {runs.resolve()}; write one: lmtool export --onnx, or name it: --model FILE"
        )
    return found[-1]


def hash_with_placeholder(data: bytes, start: int, end: int) -> str:
    """SHA-256 of `data` with `data[start:end]` taken as ASCII zeros, as hexadecimal digits."""
    digest = hashlib.sha256(memoryview(data)[:start])
    digest.update(b"0" * (end - start))
    digest.update(memoryview(data)[end:])
    return digest.hexdigest()


def hash_span(data: bytes) -> tuple[int, int]:
    """Where the file's own hash stands: start and end of its 64 digits.

    Raises:
        ArtifactError: The file has no such entry.
    """
    entry = _metadata(memoryview(data)).get(HASH_KEY)
    if entry is None:
        raise ArtifactError(f"it has no {HASH_KEY}, so it was not exported by lmtool")
    return entry[1]


_Metadata = dict[str, tuple[str, tuple[int, int]]]


def _metadata(data: memoryview) -> _Metadata:
    """Each metadata key with its value and the span of the value's bytes."""
    found: _Metadata = {}
    for field in protobuf.fields(data):
        if field.number == _METADATA:
            parts = {part.number: part for part in itertools.islice(protobuf.fields(data, field.start, field.end), 3)}
            if set(parts) != {1, 2}:
                raise ArtifactError("a metadata entry is not a key and a value")
            key = protobuf.text(data, parts[1])
            if key in found:
                raise ArtifactError(f"the metadata key {reprlib.repr(key)} appears twice")
            found[key] = (protobuf.text(data, parts[2]), (parts[2].start, parts[2].end))
    return found


def _check_format(metadata: _Metadata) -> None:
    if "lmtool.format" not in metadata:
        raise ArtifactError("it has no lmtool.format, so it was not exported by lmtool (use: lmtool export --onnx)")
    found = metadata["lmtool.format"][0]
    if found != FORMAT:
        raise ArtifactError(
            f"its format is {reprlib.repr(found)}, this version of lmtool reads {FORMAT!r}; "
            f"upgrade lmtool or export again"
        )


def _checked_hash(data: bytes, metadata: _Metadata) -> str:
    declared = _string(metadata, HASH_KEY)
    found = hash_with_placeholder(data, *metadata[HASH_KEY][1])
    if declared != found:
        raise ArtifactError(
            f"it is damaged: its bytes hash to {found[:12]}..., it declares {declared[:12]}...; copy or export it again"
        )
    return found


def _string(metadata: _Metadata, key: str) -> str:
    if key not in metadata:
        raise ArtifactError(f"its metadata lacks {key}")
    return metadata[key][0]


def _choice(metadata: _Metadata, key: str, choices: tuple[str, ...]) -> str:
    found = _string(metadata, key)
    if found not in choices:
        raise ArtifactError(f"its {key} is {reprlib.repr(found)}, expected one of {', '.join(choices)}")
    return found


def _optional(metadata: _Metadata, key: str, choices: tuple[str, ...]) -> str | None:
    return _choice(metadata, key, choices) if key in metadata else None


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
    vocabulary = Vocabulary.from_json(tokens, _json(metadata, "lmtool.tokenization"))
    declared = _string(metadata, "lmtool.vocabulary_sha256")
    if declared != vocabulary.sha256:
        raise ArtifactError(f"its vocabulary hashes to {vocabulary.sha256[:12]}..., it declares {declared[:12]}...")
    return vocabulary

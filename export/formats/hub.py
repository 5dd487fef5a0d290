"""A folder as Hugging Face's hub holds ONNX models: files by precision, configuration, tokenizer, model card.

DIR/onnx/model.onnx, model_fp16.onnx, model_int8.onnx
DIR/tokenizer.json           rule bpe only
DIR/config.json              sizes and special tokens; written first, it says whose folder it is
DIR/README.md                the card
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...runtime.artifact.artifact import FORMAT, PRECISIONS
from ...runtime.errors import JsonError, StorageError
from ...runtime.io.files import json_text, make_folder, read_bytes, write_atomically
from ...runtime.io.json_reader import parse_json
from ..candidate import model_type
from ..errors import ExportError
from .card import CARD, CardFile, card_bytes, exports_beside, require_own_card

_CONFIG = "config.json"
_TOKENIZER = "tokenizer.json"
_OWNER = "lmtool"
"""The entry of `config.json` that only this program writes."""


def write_hub_folder(path: Path, folder: Path) -> Path:
    """Write an artifact, the other precisions of the same weights beside it, and their card into a folder.

    Files of an earlier export that this one does not have are removed; other files are kept.

    Raises:
        ArtifactError: `path` is not an artifact of this version.
        ExportError: The folder holds such files of another program, or a card that was edited.
        StorageError: A file cannot be read, written or removed.
    """
    require_hub_room(folder)
    files = [file._replace(name=_name(file.precision)) for file in exports_beside(path)]
    make_folder(folder / "onnx")
    write_atomically(folder / _CONFIG, f"{json_text(_config(files), indent=2)}\n".encode())
    for file in files:
        write_atomically(folder / file.name, read_bytes(file.path))
    written = {_CONFIG, CARD, *(file.name for file in files), *_write_tokenizer(files[0], folder)}
    for name in set(_names()) - written:
        _remove(folder / name)
    write_atomically(folder / CARD, card_bytes(folder.resolve().name, files))
    return folder


def require_hub_room(folder: Path) -> None:
    """Check that a folder is new, or has nothing under the names of `write_hub_folder` that it did not write.

    Raises:
        ExportError: It has.
        StorageError: It is a file, or a file in it cannot be read.
    """
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"cannot write into {folder}: it is a file, expected a folder or a new name")
    require_own_card(folder)
    if _is_own(folder / _CONFIG):
        return
    if others := [name for name in _names() if (folder / name).exists()]:
        raise ExportError(
            f"{folder / others[0]} is there already, and not from an export for the hub; "
            "name a new folder, or move that file away"
        )


def _names() -> list[str]:
    return [_CONFIG, _TOKENIZER, CARD, *map(_name, PRECISIONS)]


def _name(precision: str) -> str:
    return "onnx/model.onnx" if precision == "fp32" else f"onnx/model_{precision}.onnx"


def _is_own(config: Path) -> bool:
    try:
        value = parse_json(read_bytes(config)) if config.exists() else None
    except JsonError:
        return False
    return isinstance(value, dict) and isinstance(value.get(_OWNER), dict)


def _config(files: Sequence[CardFile]) -> dict[str, Any]:
    artifact = files[0].artifact
    vocabulary = artifact.vocabulary
    tokenization = {key: value for key, value in vocabulary.tokenization.to_json().items() if key != "merges"}
    return {
        "model_type": model_type(artifact.architecture),
        **artifact.architecture.to_json(),
        "vocab_size": len(vocabulary),
        "bos_token_id": vocabulary.end_of_sentence_id,
        "eos_token_id": vocabulary.end_of_sentence_id,
        "unk_token_id": vocabulary.unknown_id,
        "tokenization": tokenization,
        "vocabulary_sha256": vocabulary.sha256,
        _OWNER: {
            "format": FORMAT,
            "files": {file.name: {"precision": file.precision, "sha256": file.artifact.sha256} for file in files},
        },
    }


def _write_tokenizer(file: CardFile, folder: Path) -> list[str]:
    """Write `tokenizer.json` where the rule has one; returns its name."""
    vocabulary = file.artifact.vocabulary
    if vocabulary.tokenization.unit != "subword":
        return []
    from ...model.tokenizer.hugging_face import write_tokenizer_json  # few exports need tokenizers

    write_tokenizer_json(vocabulary, folder / _TOKENIZER)
    return [_TOKENIZER]


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove {path}: {error.strerror or error}") from error

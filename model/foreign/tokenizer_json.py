"""`tokenizer.json` of Hugging Face's tokenizers as a vocabulary of rule `bpe`, proven to give the same ids."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ...runtime.errors import JsonError, VocabularyError, truncated
from ...runtime.io.files import read_bytes
from ...runtime.io.json_reader import LARGE_BYTES, parse_json
from ...runtime.tokenization import Tokenization
from ...runtime.vocabulary import Vocabulary
from ..tokenizer.agreement import ODD_TEXTS, compare_ids


def read_tokenizer(path: Path) -> Vocabulary:
    """The vocabulary of a byte-level BPE that the rule `bpe` gives the same ids.

    Raises:
        StorageError: The file cannot be read.
        VocabularyError: It is damaged, or the rule cannot give the same; the message says what differs.
    """
    data = read_bytes(path)
    try:
        value = parse_json(data, LARGE_BYTES)
        vocabulary = _vocabulary(value)
        tokenizer = Tokenizer.from_str(data.decode())
    except (JsonError, VocabularyError) as error:
        raise VocabularyError(f"{path} cannot be read as rule bpe: it {error}") from error
    except Exception as error:  # the library raises plain exceptions
        raise VocabularyError(f"{path} is no tokenizer.json: {truncated(error, 200)}") from error
    if difference := compare_ids(vocabulary, (), "", tokenizer).difference:
        raise VocabularyError(
            f"{path} cannot be read as rule bpe: of {ODD_TEXTS:,} odd texts, {difference}; bpe cuts text into the "
            "pieces that docs/reference/artifact.md describes and adds no special tokens"
        )
    return vocabulary


def _vocabulary(value: Any) -> Vocabulary:
    model = value.get("model") if isinstance(value, dict) else None
    if not isinstance(model, dict) or model.get("type") != "BPE":
        found = model.get("type") if isinstance(model, dict) else type(value).__name__
        raise VocabularyError(f"has a model of type {found}, expected BPE")
    ids = {**model["vocab"], **{each["content"]: each["id"] for each in value.get("added_tokens") or []}}
    if sorted(ids.values()) != list(range(len(ids))):
        raise VocabularyError(f"has {len(ids):,} tokens, but their ids are not 0 to {len(ids) - 1:,}")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    try:
        return Vocabulary(sorted(ids, key=ids.__getitem__), Tokenization.of_rule("bpe", merges))
    except VocabularyError as error:
        raise VocabularyError(f"has other tokens or merges: {error}") from error

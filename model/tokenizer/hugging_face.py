"""A vocabulary of rule `bpe` as a tokenizer of Hugging Face's library, and as its file `tokenizer.json`."""

from pathlib import Path

import tokenizers
from tokenizers import Tokenizer, decoders, models

from ...runtime.errors import VocabularyError
from ...runtime.io.files import write_atomically
from ...runtime.vocabulary import Vocabulary
from ..data.merges import byte_level_pieces

LIBRARY = f"tokenizers {tokenizers.__version__}"


def library_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """The tokenizer with the same ids.

    Raises:
        VocabularyError: The vocabulary's rule is not `bpe`.
    """
    tokenization = vocabulary.tokenization
    if tokenization.unit != "subword":
        raise VocabularyError(
            f"the rule {tokenization.rule} has no tokenizer.json, which is for merges of byte pairs; train with "
            "--set tokenization=bpe"
        )
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    merges = [(left, right) for left, right in (merge.split(" ") for merge in tokenization.merges)]
    tokenizer = Tokenizer(models.BPE(ids, merges))
    tokenizer.pre_tokenizer = byte_level_pieces()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def write_tokenizer_json(vocabulary: Vocabulary, path: Path) -> None:
    """Write `tokenizer.json`, which Hugging Face's tokenizers, transformers and many other programs read.

    Raises:
        VocabularyError: As for `library_tokenizer`.
        StorageError: The file cannot be written.
    """
    write_atomically(path, f"{library_tokenizer(vocabulary).to_str(pretty=True)}\n".encode())

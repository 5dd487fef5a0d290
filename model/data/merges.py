"""The merges of byte pairs of a training text, learnt by Hugging Face's tokenizers; a text always gives the same."""

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from ...runtime.text.byte_alphabet import BYTE_TOKENS
from ...runtime.text.byte_pairs import PIECE, pieces_of_chunks

DEFAULT_TOKENS = 4000
_FEWEST_PAIRS = 2
"""A pair that the text has once says nothing about other texts."""


def byte_level_pieces() -> pre_tokenizers.Sequence:
    """The library's form of the pieces of `runtime.text.byte_pairs`, in the byte alphabet."""
    split = pre_tokenizers.Split(Regex(PIECE), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def learn_merges(text: Iterable[str], vocabulary_size: int) -> tuple[str, ...]:
    """The merges that give a vocabulary of this size, bytes and unknown token included; fewer if the text gives fewer.

    Memory grows with the number of different words.

    Args:
        text: The training text, in chunks.
        vocabulary_size: More than the bytes.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_level_pieces()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - 1,
        min_frequency=_FEWEST_PAIRS,
        initial_alphabet=list(BYTE_TOKENS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(map("".join, pieces_of_chunks(text)), trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in merges)

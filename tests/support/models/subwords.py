"""A small vocabulary of rule `bpe`: some merges of ASCII, of several scripts, and of parts of characters."""

from collections.abc import Sequence

import numpy as np
import torch
from lmtool.model.data.merges import learn_merges
from lmtool.runtime import Tokenization, Vocabulary
from lmtool.runtime.text.byte_alphabet import token_of

from support.models.networks import artifact_of, network_of


def _merge(left: bytes, right: bytes) -> str:
    return f"{token_of(left)} {token_of(right)}"


MERGES = (
    *("t h", "th e", "\u0120 the", "\u0120 c", "a t", "\u0120c at", "e t", "i n", "o n", "' t", "e r", "h e", "he r"),
    *("t he", "\u0120 \u0120", "\u0120\u0120 \u0120\u0120", "a a", "aa aa", "x x", "xx xx", "1 2", "12 3", "- -"),
    *("u n", "< un", "\u010d \u010d", "\u0100 \u0100"),
    _merge(b"\xe4", b"\xb8"),  # begins many Han characters
    _merge(b"\xe4\xb8", b"\xad"),
    _merge(b"\xf0", b"\x9f"),
    _merge(b"\x98", b"\x80"),  # the end of a character
    _merge(b"\xf0\x9f", b"\x98\x80"),
    _merge(b"\xd0", b"\xb5"),
    _merge(b" ", b"\xd0\xb5"),
    _merge(b"\xe0", b"\xb8"),
    _merge(b"\xe0", b"\xa4"),
    _merge(b"\xd7", b"\x90"),
    _merge(b"\xd8", b"\xa7"),
    _merge(b"\xc3", b"\xa9"),
    _merge(b"\xcc", b"\x81"),
    _merge(b"e", b"\xcc\x81"),
)
"""`the` is made in two ways, so the order of merges matters."""

DOUBLING_MERGES = tuple(f"{'a' * 2**power} {'a' * 2**power}" for power in range(17))
"""They fit in a small file and make tokens of up to 131,072 letters, which are in no piece of a text."""

FEW_MERGES = ("t h", "th e", "\u0120 the", _merge(b"\xc3", b"\xa9"))


def bpe_vocabulary(merges: Sequence[str] = MERGES) -> Vocabulary:
    """The vocabulary of these merges, the specials first."""
    tokenization = Tokenization.of_rule("bpe", merges)
    return Vocabulary(tokenization.required, tokenization)


def bpe_artifact(merges: Sequence[str] = MERGES, loud: Sequence[str] = ()) -> bytes:
    """An untrained network with the vocabulary of these merges; it writes bytes at random, and `loud` tokens often."""
    vocabulary = bpe_vocabulary(merges)
    network = network_of((7, 3), vocabulary=len(vocabulary))
    with torch.no_grad():
        network.projection.bias[list(map(vocabulary.id, loud))] += 6
    return artifact_of(network, list(vocabulary.tokens), vocabulary.tokenization)


WRITING_MERGES = ("t h", "th e", "h e", "\u0120 the", "\u0120 t", "o r", "or y", "the ory", "' t", "\u0120 \u0120")
LOUD = (*"theETo-'1", "th", "he", "the", "theory", "ory", "'t", *map(token_of, (b" ", b"  ", b" the", b" t", b"\n")))
"""With `WRITING_MERGES`: tokens that write words of few letters."""
LOUD_BYTES = tuple(map(token_of, (b"\xc3", b"\xa9", b"\x89")))
"""Those of an e with an accent, small and capital."""


def text_artifact(text: str, temperature: float = 1.0) -> bytes:
    """An untrained network that writes the tokens of a text about as often as they are in it, with 600 tokens.

    `temperature` divides its logits.
    """
    tokenization = Tokenization.of_rule("bpe", learn_merges([text], 600))
    vocabulary = Vocabulary(tokenization.required, tokenization)
    network = network_of((7, 3), vocabulary=len(vocabulary))
    counts = np.bincount(vocabulary.encode(text), minlength=len(vocabulary))
    with torch.no_grad():
        network.projection.bias += torch.from_numpy(np.log(counts + 0.05)).float()
        network.projection.bias /= temperature
        network.projection.weight /= temperature
    return artifact_of(network, list(vocabulary.tokens), tokenization)

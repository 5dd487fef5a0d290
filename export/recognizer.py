"""The tokens of a speech recognizer, which a language model beside it must number as the recognizer does."""

from collections.abc import Sequence
from pathlib import Path

from ..runtime.files import read_text
from ..runtime.vocabulary import Vocabulary
from .errors import ExportError

_LONGEST_ID = 9
"""Digits; more tokens than that are no vocabulary."""


def read_recognizer_tokens(path: Path) -> list[str]:
    """The symbols of a `tokens.txt` in the order of their ids: a symbol and its id a line, 0 is the blank.

    Raises:
        ExportError: A line is none of these, or the ids are not 0 to one less than their number.
        StorageError: The file cannot be read or is not UTF-8.
    """
    found = []
    for number, line in enumerate(read_text(path).rstrip().split("\n"), 1):
        symbol, _, index = line.strip(" \t\r").replace("\t", " ").rpartition(" ")
        if not index.isdecimal() or len(index) > _LONGEST_ID:
            raise ExportError(f"{path}, line {number}: found {line!r}, expected a symbol, a space and its id")
        found.append((int(index), symbol.rstrip(" ") or " "))  # an id alone is that of the space
    found.sort()
    if [index for index, _ in found] != list(range(len(found))):
        raise ExportError(f"{path} has {len(found):,} lines, expected each id from 0 to {len(found) - 1:,} once")
    return [symbol for _, symbol in found]


def ids_of(tokens: Sequence[str], vocabulary: Vocabulary) -> list[int]:
    """Our id for each of the recognizer's.

    The blank is never scored or read, so its place is taken by what a text begins after: the end of a sentence. Tokens
    that the vocabulary lacks are its unknown token.

    Raises:
        ExportError: The vocabulary has none of the tokens.
    """
    words = [token for token in tokens[1:] if token not in vocabulary.tokenization.specials]
    if not any(word in vocabulary for word in words):
        raise ExportError(
            f"none of the recognizer's {len(tokens):,} tokens ({', '.join(map(repr, words[:3]))}, ...) is in the "
            f"vocabulary of {len(vocabulary):,}; train on text that is split into the recognizer's tokens"
        )
    return [vocabulary.end_of_sentence_id, *map(vocabulary.id, tokens[1:])]

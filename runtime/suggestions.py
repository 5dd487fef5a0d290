"""The most probable next words, for `Stream.suggest`, `Autocompletion` and the HTTP server."""

import reprlib
from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arguments import checked_flag, checked_integer, checked_text
from .errors import OptionError
from .session.probabilities import ranked
from .vocabulary import Vocabulary


class Suggestion(NamedTuple):
    """One continuation of a line.

    Attributes:
        text: Text to append.
        start: Position of `text` from the end of the line: 0, or minus the number of letters that it replaces.
        shown: The word, or character, for display.
        probability: Probability of the word; of a word in progress, among all words with the same letters; of a word
            after one that may be whole, the product of both.
    """

    text: str
    start: int
    shown: str
    probability: float


def suggest_tokens(
    logits: Callable[[], NDArray[np.float32]],
    vocabulary: Vocabulary,
    k: int,
    *,
    prefix: str | None = None,
    allow_unknown: bool = False,
    never: str | Collection[str] = (),
) -> list[tuple[int, float]]:
    """As `Stream.suggest`, by token ids.

    `logits` returns float32 [vocabulary] and is called after all checks, and only if needed.
    """
    k = check_suggestions(k, allow_unknown)
    prefix = checked_prefix(prefix)
    hidden = vocabulary.forms(never)
    if prefix:
        return _complete_word(logits, vocabulary, k, prefix, hidden)
    hidden |= {vocabulary.end_of_sentence_id} | (set() if allow_unknown else {vocabulary.unknown_id})
    ids, probabilities = ranked(logits(), k + len(hidden))
    pairs = zip(ids, probabilities, strict=True)
    return [pair for pair in pairs if pair[0] not in hidden][:k]


def check_suggestions(k: int, allow_unknown: bool) -> int:
    """The number of suggestions; raises OptionError if it is below 1."""
    k = checked_integer("k", k)
    checked_flag("allow_unknown", allow_unknown)
    if k < 1:
        raise OptionError(f"the number of suggestions is {k}, expected 1 or more")
    return k


def checked_prefix(prefix: str | None) -> str:
    """The letters of a word, none for None; raises OptionError if they hold white space."""
    prefix = "" if prefix is None else checked_text("prefix", prefix)
    if prefix and prefix.split() != [prefix]:
        raise OptionError(
            f"prefix is {reprlib.repr(prefix)}, expected the letters of one word; feed the words before it"
        )
    return prefix


def _complete_word(
    logits: Callable[[], NDArray[np.float32]], vocabulary: Vocabulary, k: int, prefix: str, hidden: Collection[int]
) -> list[tuple[int, float]]:
    if vocabulary.tokenization.unit != "word":
        raise OptionError(
            f"prefix is {prefix!r}, but this model reads {vocabulary.tokenization.reads} and completes whatever it was "
            f"fed; feed the letters instead"
        )
    ids = vocabulary.completions(prefix)
    if hidden:
        ids = [index for index in ids if index not in hidden]
    if not ids:
        return []
    return list(zip(*ranked(logits(), k, ids), strict=True))

"""What a text that is generated obeys: how its tokens are drawn, and where it ends."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from .arguments import checked_flag, checked_integer, checked_texts
from .draws.draw import Draw
from .errors import OptionError
from .sampling import Sampling
from .vocabulary import Vocabulary


@final
@dataclass(frozen=True)
class GenerationPlan:
    """One text, for the stream or the pool that writes it.

    Attributes:
        max_tokens: The number of tokens.
        draw: How they are drawn.
        stop_ids: The text ends before the first of these tokens.
    """

    max_tokens: int
    draw: Draw
    stop_ids: frozenset[int]

    @classmethod
    def make(
        cls,
        vocabulary: Vocabulary,
        max_tokens: int,
        sampling: Sampling,
        seed: int | Sequence[int] | None,
        stop: str | Sequence[str],
        stop_at_end_of_sentence: bool,
        never: str | Collection[str],
    ) -> "GenerationPlan":
        """Check the arguments of `Stream.generate`; raises its errors."""
        max_tokens = checked_integer("max_tokens", max_tokens)
        if max_tokens < 0:
            raise OptionError(f"max_tokens is {max_tokens}, expected 0 or more")
        random = np.random.default_rng(_checked_seed(seed))
        stops = [stop] if isinstance(stop, str) else checked_texts("stop", stop)
        stop_ids = {token_id for text in stops for token_id in _stop_ids(text, vocabulary)}
        if checked_flag("stop_at_end_of_sentence", stop_at_end_of_sentence):
            stop_ids.add(vocabulary.end_of_sentence_id)
        unknown = set() if sampling.allow_unknown else {vocabulary.unknown_id}
        barred = np.array(sorted(vocabulary.forms(never) | unknown), np.int64)
        return cls(max_tokens, Draw(sampling, random, barred), frozenset(stop_ids))


def seed_of_text(seed: int | None, number: int) -> int | list[int] | None:
    """The seed of text `number` of several that one seed is given for: text 0 is the one that is written alone."""
    return [seed, number] if seed is not None and number else seed


def _checked_seed(seed: int | Sequence[int] | None) -> int | list[int] | None:
    if seed is None:
        return None
    if not isinstance(seed, (list, tuple)):
        return _checked_number(seed)
    if not seed:
        raise OptionError("seed is empty, expected a number, or several")
    return [_checked_number(number) for number in seed]


def _checked_number(seed: Any) -> int:
    number = checked_integer("seed", seed)
    if number < 0:
        raise OptionError(f"seed is {number}, expected 0 or more")
    return number


def _stop_ids(text: str, vocabulary: Vocabulary) -> set[int]:
    """The ids of a stop: of `bpe` also that of the word with the space before it, as it is written in a sentence."""
    has_two_forms = vocabulary.tokenization.unit == "subword" and text and not text[0].isspace()
    forms = map(vocabulary.tokenization.split, (text, f" {text}") if has_two_forms else (text,))
    found = {vocabulary.id(tokens[0]) for tokens in forms if len(tokens) == 1 and tokens[0] in vocabulary}
    if not found:
        raise OptionError(
            f"stop holds {text!r}, which is no token of this model's vocabulary and would never be written; "
            f"expected single tokens of it"
        )
    return found

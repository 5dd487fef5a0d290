"""What a text that is generated obeys: how its tokens are drawn, and where it ends."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .arguments import checked_flag, checked_integer, checked_texts
from .draws.barred_words import BarredWords
from .draws.draw import Draw
from .errors import OptionError
from .sampling import Sampling
from .text.text_decoder import TextDecoder
from .vocabulary import Vocabulary


@final
@dataclass(frozen=True)
class GenerationPlan:
    """One text, for the stream or the pool that writes it.

    Attributes:
        max_tokens: The number of tokens.
        draw: How they are drawn.
        stop_ids: The text ends before the first of these tokens.
        stops: The text ends before the first of these texts.
        never: With the rule `bpe`: the tokens that would complete a word that is never written; None for no words.
    """

    max_tokens: int
    draw: Draw
    stop_ids: frozenset[int] = frozenset()
    stops: tuple[str, ...] = ()
    never: BarredWords | None = None

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
        if checked_flag("stop_at_end_of_sentence", stop_at_end_of_sentence):
            stops.append("\n")
        stop_ids, texts = _stops(stops, vocabulary)
        barred, words = ruled_out(vocabulary, never)
        if sampling.allow_unknown:
            barred = barred[barred != vocabulary.unknown_id]
        draw = Draw(sampling, random, barred)
        if draw.depends_on_boundary and vocabulary.tokenization.unit == "subword":
            draw.inside = vocabulary.inside_words
        return cls(max_tokens, draw, stop_ids, texts, words)

    @property
    def depends_on_text(self) -> bool:
        """Whether the tokens that may be next depend on the text, after its first one too."""
        return self.never is not None or self.draw.inside is not None

    def close_tokens(self, text: TextDecoder) -> None:
        """Rule out what may not follow this text: what completes a word of `never`, or lacks the space at its end."""
        closed = None if self.never is None else self.never.after(text)
        if text.takes_space:
            others = text.vocabulary.spaces.others
            closed = others if closed is None else np.concatenate([closed, others])
        self.draw.closed = closed


def ruled_out(vocabulary: Vocabulary, never: str | Collection[str]) -> tuple[NDArray[np.int64], BarredWords | None]:
    """The ids of tokens that are not written: the unknown one, and words of `never`; with `bpe` instead its words.

    Raises:
        OptionError: As for `Vocabulary.forms`.
    """
    unknown = {vocabulary.unknown_id}
    if vocabulary.tokenization.unit == "subword":
        return np.array(list(unknown), np.int64), vocabulary.barred_words(never)
    return np.array(sorted(vocabulary.forms(never) | unknown), np.int64), None


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


def _stops(stops: list[str], vocabulary: Vocabulary) -> tuple[frozenset[int], tuple[str, ...]]:
    """The stops as tokens or, with the rule `bpe` and unless they are newlines, as texts."""
    if vocabulary.tokenization.unit != "subword" or set(stops) <= {"\n"}:
        return frozenset(_stop_id(text, vocabulary) for text in stops), ()
    if "" in stops:
        raise OptionError("stop holds an empty text, expected one or more characters")
    return frozenset(), tuple(stops)


def _stop_id(text: str, vocabulary: Vocabulary) -> int:
    tokens = vocabulary.tokenization.split(text)
    if len(tokens) != 1 or tokens[0] not in vocabulary:
        raise OptionError(
            f"stop holds {text!r}, which is no token of this model's vocabulary and would never be written; "
            f"expected single tokens of it"
        )
    return vocabulary.id(tokens[0])

"""Sampling of the next token: greedy, weighted, weighted at word boundaries; temperature, top-k, top-p, penalty.

Top-p is Holtzman et al., arXiv 1904.09751; the repetition penalty is Keskar et al., arXiv 1909.05858.
"""

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from .arguments import (
    checked_array,
    checked_flag,
    checked_instance,
    checked_integer,
    checked_number,
    checked_text,
    freeze_fields,
)
from .draws.draw import Draw
from .draws.token_sampler import TokenSampler
from .errors import OptionError

METHODS = ("greedy", "weighted", "weighted-at-boundaries")
_NONE = np.zeros(0, np.int64)


@final
@dataclass(frozen=True)
class Sampling:
    """Sampling options.

    Attributes:
        method: `greedy` takes the most probable token; `weighted` draws by probability; `weighted-at-boundaries` draws
            where a word begins and is greedy inside it. Characters are drawn after white space, words always. Of parts
            of words (`bpe`) the most probable one goes on with the word, or else one is drawn of those that do not.
        temperature: Divides the logits before the softmax; 0 is greedy.
        top_k: Draw among the k most probable tokens only; None for all.
        top_p: Draw among the fewest most probable tokens whose probabilities reach p; None for all.
        allow_unknown: Whether the unknown token may be chosen.
        repetition_penalty: Makes recent tokens less probable: divides positive logits, multiplies negative ones; 1 is
            off.
        repetition_window: The number of latest tokens that count as recent.
    """

    method: str = "weighted"
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    allow_unknown: bool = False
    repetition_penalty: float = 1.0
    repetition_window: int = 64

    def __post_init__(self) -> None:
        """Raise OptionError for a field outside its range."""
        freeze_fields(
            self,
            method=checked_text("method", self.method),
            temperature=checked_number("temperature", self.temperature),
            top_k=None if self.top_k is None else checked_integer("top_k", self.top_k),
            top_p=None if self.top_p is None else checked_number("top_p", self.top_p),
            allow_unknown=checked_flag("allow_unknown", self.allow_unknown),
            repetition_penalty=checked_number("repetition_penalty", self.repetition_penalty),
            repetition_window=checked_integer("repetition_window", self.repetition_window),
        )
        if self.method not in METHODS:
            raise OptionError(f"sampling method {self.method!r} is not known, expected one of {', '.join(METHODS)}")
        if not 0 <= self.temperature < float("inf"):
            raise OptionError(f"temperature is {self.temperature}, expected 0 (greedy) or a positive number")
        if self.top_k is not None and self.top_k < 1:
            raise OptionError(f"top_k is {self.top_k}, expected 1 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise OptionError(f"top_p is {self.top_p}, expected more than 0 and at most 1")
        if not 1 <= self.repetition_penalty < math.inf:
            raise OptionError(f"repetition_penalty is {self.repetition_penalty}, expected 1 (off) or more")
        if self.repetition_window < 1:
            raise OptionError(f"repetition_window is {self.repetition_window}, expected 1 or more")

    def choose(
        self,
        logits: NDArray[np.float32],
        random: "np.random.Generator",
        at_boundary: bool,
        recent: Collection[int] = (),
    ) -> int:
        """Choose a token id.

        Args:
            logits: float32 [vocabulary]; minus infinity rules a token out.
            random: Source of the draw; one number is drawn unless the choice is greedy.
            at_boundary: Whether the text so far ends at a word boundary.
            recent: Token ids for the repetition penalty.

        Raises:
            OptionError: The logits have another shape, hold NaN or infinity, or rule out every token.
        """
        checked_array("logits", logits, "f", "an array of float32 [vocabulary]")
        checked_instance("random", random, np.random.Generator, "make one: numpy.random.default_rng(seed)")
        highest = logits.max(initial=-math.inf)
        if logits.ndim != 1 or not math.isfinite(highest):
            raise OptionError(
                f"logits are {logits.dtype} {list(logits.shape)} with the maximum {highest}, expected float32 "
                "[vocabulary] with a finite one: no NaN, and a token that is not ruled out"
            )
        draw = Draw(self, random, _NONE, ahead=1, at_boundary=at_boundary)
        draw.recent = deque(recent)
        return TokenSampler(len(logits)).choose_one(logits, draw)

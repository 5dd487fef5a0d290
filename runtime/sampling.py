"""Sampling of the next token: greedy, weighted, weighted at word boundaries; temperature, top-k, top-p, penalty.

Top-p is Holtzman et al., arXiv 1904.09751; the repetition penalty is Keskar et al., arXiv 1909.05858.
"""

import math
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
from .errors import OptionError

METHODS = ("greedy", "weighted", "weighted-at-boundaries")
_BEST, _BEST_OF_NUCLEUS = 1024, 4096
"""The number of most probable tokens that are sorted first: nine of ten draws, and most nuclei, need no others."""


@final
@dataclass(frozen=True)
class Sampling:
    """Sampling options.

    Attributes:
        method: `greedy` takes the most probable token; `weighted` draws by probability; `weighted-at-boundaries` draws
            after white space and is greedy inside a word (for characters; words are all boundaries).
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

    @np.errstate(over="ignore")  # a very low temperature leaves one token, a very high penalty no recent one
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
        """
        checked_array("logits", logits, "f", "an array of float32 [vocabulary]")
        checked_instance("random", random, np.random.Generator, "make one: numpy.random.default_rng(seed)")
        if self.repetition_penalty != 1 and recent:
            logits = self._penalised(logits, recent)
        if self.temperature == 0 or self.method == "greedy" or (self.method != "weighted" and not at_boundary):
            return int(np.argmax(logits))
        draw = random.random()
        count = _BEST if self.top_p is None else _BEST_OF_NUCLEUS
        is_worth_it = self.top_k is None and len(logits) > 2 * count
        chosen = self._choose_among_best(logits, draw, count) if is_worth_it else None
        return self._choose_among_all(logits, draw) if chosen is None else chosen

    def _penalised(self, logits: NDArray[np.float32], recent: Collection[int]) -> NDArray[np.float32]:
        ids = np.unique(np.fromiter(recent, np.int64))
        penalised = logits.copy()
        chosen = logits[ids]
        penalised[ids] = np.where(chosen > 0, chosen / self.repetition_penalty, chosen * self.repetition_penalty)
        return penalised

    def _choose_among_best(self, logits: NDArray[np.float32], draw: float, count: int) -> int | None:
        """As `_choose_among_all`, but sorts only the `count` most probable tokens; None if the choice needs others."""
        least = np.partition(logits, -count)[-count]
        best = np.flatnonzero(logits > least)
        if not len(best):
            return None
        weights = np.exp((logits.astype(np.float64) - float(logits.max())) / self.temperature)
        order = best[np.argsort(-logits[best], kind="stable")]
        cumulative, total = np.cumsum(weights[order]), weights.sum()
        if self.top_p is not None:
            if cumulative[-1] < self.top_p * total:
                return None
            cumulative = cumulative[: np.searchsorted(cumulative, self.top_p * total) + 1]
            total = cumulative[-1]
        drawn = int(np.searchsorted(cumulative, draw * total, side="right"))
        return int(order[drawn]) if drawn < len(cumulative) else None

    def _choose_among_all(self, logits: NDArray[np.float32], draw: float) -> int:
        order, weights = self._candidates(logits)
        cumulative = np.cumsum(weights)
        drawn = np.searchsorted(cumulative, draw * cumulative[-1], side="right")
        return int(order[min(drawn, len(order) - 1)])

    def _candidates(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Token ids that may be drawn, by falling probability (ties by id), and their weights."""
        order = np.argsort(-logits, kind="stable")
        if self.top_k is not None:
            order = order[: self.top_k]
        weights = np.exp((logits[order].astype(np.float64) - float(logits[order[0]])) / self.temperature)
        if self.top_p is not None:
            reached = np.searchsorted(np.cumsum(weights), self.top_p * weights.sum()) + 1
            order, weights = order[:reached], weights[:reached]
        return order, weights

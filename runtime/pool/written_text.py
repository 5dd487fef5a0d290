"""WrittenText: the text of a job with stops; the pool's thread makes it, since it ends where a stop is complete."""

from collections.abc import Callable
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..generation_plan import GenerationPlan
from ..state import State
from ..text.stops import StoppedText
from ..text.text_decoder import TextDecoder


@final
class WrittenText:
    """A text that ends before a stop.

    Attributes:
        pieces: A piece for each token, without what is held back; it only grows.
    """

    def __init__(self, plan: GenerationPlan, prompt: TextDecoder) -> None:
        """`prompt`: the decoder at the end of the prompt, not changed."""
        self.pieces: list[str] = []
        self._limit = plan.max_tokens
        self._decoder = prompt.copy()
        self._text = StoppedText(plan.stops, 0)

    @property
    def kept(self) -> int:
        """Number of tokens whose text was released in full."""
        return self._text.place

    def watch(self, token: int, logits: NDArray[np.float32], state: Callable[[], State]) -> bool:
        """See a token; returns whether a stop is complete."""
        piece, count = self._decoder.add(token), len(self.pieces) + 1
        released = self._text.push(
            piece, count, within_character=bool(self._decoder.partial), is_last=count == self._limit
        )
        self.pieces.append(released)
        return self._text.stopped

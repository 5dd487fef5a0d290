"""Spaces: the space at the end of a text, which the token of the next word holds with the rule `bpe`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import numpy as np

from ..tokenization import SPACE_TOKEN

if TYPE_CHECKING:
    from ..vocabulary import Vocabulary

_LONGEST = 32
"""Spaces of one piece of the rule."""


@final
class Spaces:
    """The tokens of a vocabulary that consist of spaces, and those that begin with one; none but with `bpe`.

    A word's token begins with the space before it. So where a text ends in a space, the next token is not the one after
    that space: it begins with it, and takes its place.

    Attributes:
        others: int64, ids of the tokens that do not begin with a space.
    """

    def __init__(self, vocabulary: "Vocabulary") -> None:
        tokens = vocabulary.tokens if vocabulary.tokenization.unit == "subword" else ()
        others = [index for index, token in enumerate(tokens) if not token.startswith(SPACE_TOKEN)]
        self.others = np.array(others, np.int64)
        runs = [SPACE_TOKEN * count for count in range(1, _LONGEST + 1) if tokens]
        self._before = {
            vocabulary.id(run): tuple(vocabulary.encode(" " * (len(run) - 1))) for run in runs if run in vocabulary
        }

    def before(self, token_id: int) -> tuple[int, ...] | None:
        """The tokens of a token of spaces without its last space, which the next word takes; None for other tokens."""
        return self._before.get(token_id)

    def pending(self, token_id: int) -> int:
        """How many tokens stay pending where a text ends with this one: it, and the one before a space."""
        return 2 if token_id in self._before else 1

    def opened(self, tokens: Sequence[int]) -> tuple[list[int], bool]:
        """The tokens to read before a text is written after these, and whether its first token takes their last space.

        It does not where the token before the space is not known.
        """
        before = self._before.get(tokens[-1]) if len(tokens) > 1 else None
        return (list(tokens), False) if before is None else ([*tokens[:-1], *before], True)

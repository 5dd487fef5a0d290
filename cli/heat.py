"""Text coloured by how surprising each of its tokens was, for a terminal."""

import math
from typing import TYPE_CHECKING, Optional, final

from rich.console import Console
from rich.text import Text

from .output import escaped

if TYPE_CHECKING:
    from ..runtime.score import Score
    from ..runtime.tokenization import Tokenization

_STYLES = {2: "green", 5: "yellow", 8: "dark_orange", 11: "red"}
"""Surprise in bits below which a token gets this colour: 2 bits are a probability of 1/4, 11 of about 1/2,000."""
_HOTTEST = "white on red"


@final
class Heat:
    """Colours the tokens of texts."""

    def __init__(self, console: Console, tokenization: "Tokenization") -> None:
        """Use `Heat.of_terminal`."""
        self._console = console
        self._tokenization = tokenization

    @classmethod
    def of_terminal(cls, tokenization: "Tokenization") -> Optional["Heat"]:
        """One for stdout; None where that is no terminal (`FORCE_COLOR=1` makes it one)."""
        console = Console(highlight=False)
        return cls(console, tokenization) if console.is_terminal else None

    def coloured(self, text: str, score: "Score") -> str:
        """The tokens of `text`, each in the colour of its log-probability in `score`."""
        shown = Text()
        previous = None
        for token, log_prob in zip(self._tokenization.split(text), score.token_log_probs, strict=True):
            piece = self._tokenization.piece(token, previous).replace("\n", "\N{RETURN SYMBOL}")
            shown.append(escaped(piece), _style(-log_prob / math.log(2)))
            previous = token
        return self._rendered(shown)

    def legend(self) -> str:
        """One line that explains the colours."""
        shown = Text("bits of surprise: ")
        for limit, style in _STYLES.items():
            shown.append(f"<{limit}", style).append(" ")
        return self._rendered(shown.append(f"{max(_STYLES)}+", _HOTTEST))

    def _rendered(self, text: Text) -> str:
        with self._console.capture() as captured:
            self._console.print(text, soft_wrap=True, end="")
        return captured.get()


def _style(bits: float) -> str:
    return next((style for limit, style in _STYLES.items() if bits < limit), _HOTTEST)

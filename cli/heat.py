"""Text on a terminal, each token coloured by its surprisal."""

import math
from typing import TYPE_CHECKING, Optional, final

from rich.console import Console
from rich.text import Text

from .output import escaped

if TYPE_CHECKING:
    from ..runtime.score import Score
    from ..runtime.tokenization import Tokenization

_STYLES = {2: "green", 5: "yellow", 8: "dark_orange", 11: "red"}
"""Upper bound of the surprisal in bits -> colour. 2 bits are a probability of 1/4, 11 bits of about 1/2,000."""
_HIGHEST_STYLE = "white on red"


@final
class Heat:
    """Colours the tokens of texts; made by `Heat.of_terminal`."""

    def __init__(self, console: Console, tokenization: "Tokenization") -> None:
        self._console = console
        self._tokenization = tokenization

    @classmethod
    def of_terminal(cls, tokenization: "Tokenization") -> Optional["Heat"]:
        """Colours for stdout; None where it is no terminal (`FORCE_COLOR=1` makes it one), or one without colours.

        `TERM=dumb` and `NO_COLOR` name a terminal without colours.
        """
        console = Console(highlight=False)
        return None if console.color_system is None or console.no_color else cls(console, tokenization)

    def coloured(self, text: str, score: "Score") -> str:
        """The tokens of `text`, coloured by their log-probabilities in `score`."""
        line = Text()
        previous = None
        for token, log_prob in zip(self._tokenization.split(text), score.token_log_probs, strict=True):
            piece = self._tokenization.piece(token, previous).replace("\n", "\N{RETURN SYMBOL}")
            line.append(escaped(piece), _style(-log_prob / math.log(2)))
            previous = token
        return self._rendered(line)

    def legend(self) -> str:
        """One line that explains the colours."""
        line = Text("bits of surprise: ")
        for limit, style in _STYLES.items():
            line.append(f"<{limit}", style).append(" ")
        return self._rendered(line.append(f"{max(_STYLES)}+", _HIGHEST_STYLE))

    def _rendered(self, text: Text) -> str:
        with self._console.capture() as captured:
            self._console.print(text, soft_wrap=True, end="")
        return captured.get()


def _style(bits: float) -> str:
    return next((style for limit, style in _STYLES.items() if bits < limit), _HIGHEST_STYLE)

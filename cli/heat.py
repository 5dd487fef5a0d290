"""Text on a terminal, each token coloured by its surprisal."""

import math
from typing import TYPE_CHECKING, Optional, final

from rich.console import Console
from rich.text import Text

from .output import escaped

if TYPE_CHECKING:
    from ..runtime import Vocabulary
    from ..runtime.score import Score

_STYLES = {2: "green", 5: "yellow", 8: "dark_orange", 11: "red"}
"""Upper bound of the surprisal in bits -> colour. 2 bits are a probability of 1/4, 11 bits of about 1/2,000."""
_HIGHEST_STYLE = "white on red"


@final
class Heat:
    """Colours the tokens of texts; made by `Heat.of_terminal`."""

    def __init__(self, console: Console, vocabulary: "Vocabulary") -> None:
        self._console = console
        self._vocabulary = vocabulary

    @classmethod
    def of_terminal(cls, vocabulary: "Vocabulary") -> Optional["Heat"]:
        """Colours for stdout; None where it is no terminal (`FORCE_COLOR=1` makes it one), or one without colours.

        `TERM=dumb` and `NO_COLOR` name a terminal without colours.
        """
        console = Console(highlight=False)
        return None if console.color_system is None or console.no_color else cls(console, vocabulary)

    def coloured(self, text: str, score: "Score") -> str:
        """The tokens of `text`, coloured by their log-probabilities in `score`."""
        from ..runtime import TextDecoder

        line, decoder = Text(), TextDecoder(self._vocabulary)
        tokens = self._vocabulary.tokenization.split(text)
        for token, log_prob in zip(tokens, score.token_log_probs, strict=True):
            piece = decoder.add_token(token).replace("\n", "\N{RETURN SYMBOL}")
            line.append(escaped(piece), _style(-log_prob / math.log(2)))
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

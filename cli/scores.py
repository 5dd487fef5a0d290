"""Prints the score of each text at once, as rows for people or as JSON lines."""

from typing import TYPE_CHECKING, Optional, final

from .output import print_result, print_text

if TYPE_CHECKING:
    from ..runtime import Predictor, Score
    from .heat import Heat


@final
class ScorePrinter:
    """Scores texts and prints each before the next; keeps nothing of them."""

    def __init__(self, predictor: "Predictor", *, end: bool, per_token: bool, heat: bool, as_json: bool) -> None:
        """Print the legend of the colours.

        Args:
            predictor: Scores the texts.
            end: Score the end of the sentence after each text too.
            per_token: Print every token.
            heat: Colour the tokens, on a terminal.
            as_json: Print JSON lines.
        """
        self._predictor = predictor
        self._end = "\n" if end else ""
        self._per_token = per_token
        self._as_json = as_json
        self._heat = _heat_of(predictor) if heat and not as_json else None
        if self._heat is not None:
            print_result(False, self._heat.legend(), None, coloured=True)

    def print(self, text: str) -> None:
        """Score a text, print it, and flush."""
        from ..runtime.io.files import json_text

        score = self._predictor.score(text + self._end)
        if self._as_json:
            return print_text(f"{json_text({'text': text, **score.to_json()})}\n")
        return print_result(False, "\n".join(self._rows(text, score)), None, coloured=self._heat is not None)

    def _rows(self, text: str, score: "Score") -> list[str]:
        perplexity = f"{score.perplexity:10.2f}" if score.tokens else f"{'-':>10}"
        shown = text if self._heat is None else self._heat.coloured(text + self._end, score)
        rows = [f"{score.log_prob:10.3f}  perplexity {perplexity}  unknown {score.unknown}  {shown}"]
        if self._per_token:
            pairs = zip(score.tokens, score.token_log_probs, strict=True)
            rows += [f"{log_prob:10.3f}    {token!r}" for token, log_prob in pairs]
        return rows


def _heat_of(predictor: "Predictor") -> Optional["Heat"]:
    from .heat import Heat

    return Heat.of_terminal(predictor.vocabulary.tokenization)

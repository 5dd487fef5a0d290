"""Prints scores of texts as rows for people or as JSON lines."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional, final

from .output import print_result, print_status, print_text

if TYPE_CHECKING:
    from ..runtime import Predictor, Score
    from .heat import Heat


@final
class ScorePrinter:
    """Scores texts and prints them; keeps nothing of them."""

    def __init__(
        self,
        predictor: "Predictor",
        *,
        end: bool,
        per_token: bool,
        per_word: bool,
        ranks: bool,
        heat: bool,
        as_json: bool,
    ) -> None:
        """Print the legend of the colours.

        Args:
            predictor: Scores the texts.
            end: Score the end of the sentence after each text too.
            per_token: Print every token.
            per_word: Print every word.
            ranks: Print every token with its rank.
            heat: Colour the tokens, on a terminal.
            as_json: Print JSON lines.
        """
        self._predictor = predictor
        self._end = "\n" if end else ""
        self._per_token = per_token
        self._per_word = per_word
        self._ranks = ranks
        self._as_json = as_json
        self._texts = self._many_unknown = 0
        self._heat = _heat_of(predictor) if heat and not as_json else None
        if self._heat is not None:
            print_result(False, self._heat.legend(), None, coloured=True)

    def print(self, texts: Sequence[str]) -> None:
        """Score texts that are there together; print each, and flush."""
        scores = self._predictor.scores([text + self._end for text in texts], ranks=self._ranks)
        for text, score in zip(texts, scores, strict=True):
            self._count(score)
            self._print(text, score)

    def _print(self, text: str, score: "Score") -> None:
        from ..runtime.io.files import json_text

        if self._as_json:
            value = {"text": text, **score.to_json()}
            if self._per_word:
                value["words"] = [{"word": word, "log_prob": log_prob} for word, log_prob in self._words(text, score)]
            return print_text(f"{json_text(value)}\n")
        return print_result(False, "\n".join(self._rows(text, score)), None, coloured=self._heat is not None)

    def finish(self) -> None:
        """Say of how many texts many words are unknown."""
        if self._many_unknown > 1:
            print_status(
                f"warning: {self._many_unknown:,} of {self._texts:,} texts have a quarter or more unknown tokens"
            )

    def _count(self, score: "Score") -> None:
        """Count the text, and warn at the first one with many unknown words."""
        self._texts += 1
        self._many_unknown += score.has_many_unknown
        if score.has_many_unknown and self._many_unknown == 1:
            print_status(
                f"warning: unknown tokens in text {self._texts:,}: {score.unknown} of {len(score.tokens)} (the "
                f"vocabulary has {len(self._predictor.vocabulary):,}); their spelling decides its score, so compare "
                "what the model knows (known perplexity), or train on text like this"
            )

    def _rows(self, text: str, score: "Score") -> list[str]:
        from ..runtime.score import format_perplexity

        perplexity = format_perplexity(score.perplexity)
        shown = text if self._heat is None else self._heat.coloured(text + self._end, score)
        known = ""
        if 0 < score.unknown < len(score.tokens):
            known = f" (known perplexity {format_perplexity(score.known_perplexity)})"
        rows = [f"{score.log_prob:10.3f}  perplexity {perplexity:>10}  unknown {score.unknown}{known}  {shown}"]
        if score.ranks is not None:
            ranked = zip(score.tokens, score.token_log_probs, score.ranks, strict=True)
            rows += [f"{log_prob:10.3f}  {rank:>6,}  {token!r}" for token, log_prob, rank in ranked]
        elif self._per_token:
            pairs = zip(score.tokens, score.token_log_probs, strict=True)
            rows += [f"{log_prob:10.3f}    {token!r}" for token, log_prob in pairs]
        if self._per_word:
            rows += [f"{log_prob:10.3f}    {word!r}" for word, log_prob in self._words(text, score)]
        return rows

    def _words(self, text: str, score: "Score") -> list[tuple[str, float]]:
        from ..runtime.score import word_log_probs

        return word_log_probs(text + self._end, score, self._predictor.vocabulary)


def _heat_of(predictor: "Predictor") -> Optional["Heat"]:
    from .heat import Heat

    return Heat.of_terminal(predictor.vocabulary)

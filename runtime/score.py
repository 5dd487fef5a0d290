"""Scores of a text: the log-probability of every token, their sum and the perplexity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .errors import NumberError
from .text.text_decoder import TextDecoder
from .text.text_size import TextSize, perplexity
from .vocabulary import Vocabulary

_MOST_PLAIN = 1e6

SPELLING_SYMBOLS = 257
"""The symbols of a spelling: 256 bytes, and the end of the word."""

MANY_UNKNOWN = 0.25
"""Share of unknown tokens from which a text's score says little: the commands warn."""


@final
@dataclass(frozen=True)
class Score:
    """The scored tokens of one text.

    A model knows the probability of any unknown word, p(`<unk>`), which is high, and not that of the one in the text.
    So its spelling counts too, and a text does not become more probable by words that the model does not know:

        p(word) = p(<unk>) * 257 ** -(number of its UTF-8 bytes + 1)

    The second factor is uniform over bytes and an end, and sums to 1 over all words. `log_prob` and `perplexity`
    include it; `known_log_prob` and `known_perplexity` leave unknown tokens out ("excluding OOVs"). A spelling that is
    not known costs nothing: that of a token id, and of `<unk>` written in the text, as in the Penn Treebank's.

    Attributes:
        tokens: The text's tokens as `Vocabulary.text` shows them; those outside the vocabulary as the unknown token.
        token_log_probs: Natural log-probability of each token given all before it. A tuple, because small arrays
            between the large ones of the network would keep the memory around them from being freed.
        unknown: The number of tokens outside the vocabulary.
        known_log_prob: Sum of the log-probabilities of the other tokens.
        size: Bytes and words of the text as it was given; of token ids, those of their text.
        ranks: The rank of each token among all of the vocabulary at its place, 1 for the most probable one; tokens of
            equal logits have the same. A token outside the vocabulary has that of the unknown token. None unless
            `Predictor.scores` was asked for ranks.
    """

    tokens: tuple[str, ...]
    token_log_probs: tuple[float, ...]
    unknown: int
    known_log_prob: float
    size: TextSize
    ranks: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        token_ids: Sequence[int],
        token_log_probs: Sequence[float],
        vocabulary: Vocabulary,
        text: str | None = None,
        ranks: Sequence[int] | None = None,
    ) -> "Score":
        """The score of valid token ids from their log-probabilities, which include their spelling.

        Without the text that they are of, it is that of the ids.
        """
        unknown_id = vocabulary.unknown_id
        known = token_log_probs
        if unknown := token_ids.count(unknown_id):
            pairs = zip(token_ids, token_log_probs, strict=True)
            known = [log_prob for index, log_prob in pairs if index != unknown_id]
        tokens = tuple(map(vocabulary.text, token_ids))
        size = TextSize.of(vocabulary.decode(token_ids) if text is None else text)
        ranks = None if ranks is None else tuple(ranks)
        return cls(tokens, tuple(token_log_probs), unknown, math.fsum(known), size, ranks)

    def __repr__(self) -> str:
        return (
            f"<Score of {len(self.tokens):,} tokens ({self.unknown:,} unknown): "
            f"log_prob {self.log_prob:.3f}, perplexity {self.perplexity:.2f}>"
        )

    @property
    def log_prob(self) -> float:
        """Natural log-probability of the whole text; 0 for an empty one."""
        return math.fsum(self.token_log_probs)

    @property
    def perplexity(self) -> float:
        """exp(-log_prob / number of tokens); 1 for an empty text."""
        return perplexity(self.log_prob, len(self.tokens))

    @property
    def bits_per_byte(self) -> float:
        """-log_prob in bits for each byte of the text; 0 for an empty one.

        It compares models of any tokens on one text. A model of words predicts less than what it is divided by: it
        reads lower case, and no white space but newlines.
        """
        return self.size.bits_per_byte(self.log_prob)

    @property
    def word_perplexity(self) -> float:
        """exp(-log_prob / words), where newlines count as words; 1 without any. See `bits_per_byte`."""
        return self.size.word_perplexity(self.log_prob)

    @property
    def known_perplexity(self) -> float:
        """exp(-known_log_prob / number of known tokens); 1 without any."""
        return perplexity(self.known_log_prob, len(self.tokens) - self.unknown)

    @property
    def has_many_unknown(self) -> bool:
        """Whether a quarter of the tokens or more is unknown, so that the score says little."""
        return self.unknown > 0 and self.unknown >= MANY_UNKNOWN * len(self.tokens)

    def to_json(self) -> dict[str, Any]:
        """The score as JSON values; ranks only where there are some."""
        return {
            "tokens": list(self.tokens),
            "token_log_probs": list(self.token_log_probs),
            **({} if self.ranks is None else {"ranks": list(self.ranks)}),
            "log_prob": self.log_prob,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
            "word_perplexity": self.word_perplexity,
            "unknown": self.unknown,
            "known_log_prob": self.known_log_prob,
            "known_perplexity": self.known_perplexity,
        }


def spelled_ids(text: str, vocabulary: Vocabulary) -> tuple[list[int], list[float]]:
    """The token ids of a text, and their `spelling_log_probs`."""
    tokens = vocabulary.tokenization.split(text)
    ids = vocabulary.ids(tokens)
    return ids, spelling_log_probs(tokens, ids, vocabulary)


def spelling_log_probs(tokens: Sequence[str], ids: Sequence[int], vocabulary: Vocabulary) -> list[float]:
    """What the spelling of each token, which has this id, adds to its log-probability: 0 for known ones and `<unk>`."""
    unknown, unknown_id = vocabulary.tokenization.unknown, vocabulary.unknown_id
    log_probs = [0.0] * len(ids)
    if unknown_id in ids:
        for position, (token, index) in enumerate(zip(tokens, ids, strict=True)):
            if index == unknown_id and token != unknown:
                log_probs[position] = _spelling_symbols(token) * -math.log(SPELLING_SYMBOLS)
    return log_probs


def _spelling_symbols(token: str) -> int:
    return len(token.encode(errors="surrogatepass")) + 1


def word_log_probs(text: str, score: Score, vocabulary: Vocabulary) -> list[tuple[str, float]]:
    """The words of a text, each with the sum of its tokens' log-probabilities; all of them sum to the text's.

    Words are what stands between white space, and newlines. White space before a word belongs to it.
    """
    decoder, pieces, sums = TextDecoder(vocabulary), [""], [0.0]
    for token, log_prob in zip(vocabulary.tokenization.split(text), score.token_log_probs, strict=True):
        piece = decoder.add_token(token)
        if (pieces[-1].strip() and piece[:1].isspace()) or pieces[-1].endswith("\n"):
            pieces.append("")
            sums.append(0.0)
        pieces[-1] += piece
        sums[-1] += log_prob
    words = [piece.strip(" ") or piece for piece in pieces]
    return list(zip(words, sums, strict=True)) if score.tokens else []


def format_perplexity(value: float, decimals: int = 2) -> str:
    """A perplexity as text: `65.44`; above a million `1.23e+06`."""
    return f"{value:.{decimals}{'f' if value < _MOST_PLAIN else 'e'}}"


def require_finite(numbers: NDArray[np.floating[Any]], what: str) -> None:
    """Raise NumberError, which names `what`, for NaN or infinity; argmax and argmin find those, and take no memory."""
    flat = numbers.reshape(-1)
    if flat.size and not (math.isfinite(flat.item(flat.argmax())) and math.isfinite(flat.item(flat.argmin()))):
        raise NumberError(
            f"the {what} that the network computed are not finite: its weights, or the state that it continued, "
            "are too large or damaged; train again with a lower learning_rate or clip_norm, or begin with a new state"
        )

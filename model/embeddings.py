"""The word vectors of a trained network, and the nearest words by cosine similarity."""

import difflib
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

from ..runtime.errors import OptionError
from ..runtime.vocabulary import Vocabulary
from .run import Run


class Neighbour(NamedTuple):
    """A word, and the cosine similarity of its vector to the query's."""

    word: str
    similarity: float


@final
@dataclass(frozen=True)
class Embeddings:
    """The vector of each token.

    Attributes:
        vocabulary: The tokens.
        vectors: float32 [vocabulary, embedding size], indexed by token id.
    """

    vocabulary: Vocabulary
    vectors: npt.NDArray[np.float32]

    @classmethod
    def of_run(cls, run: Run) -> "Embeddings":
        """The input vectors of a run's best weights.

        Raises:
            RunError: The folder holds no run, or no epoch is finished.
            CheckpointError: The checkpoint is damaged, or does not fit.
        """
        network, _ = run.trained()
        return cls(run.vocabulary(), network.embedding.weight.detach().numpy())

    def frequent(self, count: int | None = None) -> list[int]:
        """Ids of the `count` most frequent words, most frequent first; None for all. Special tokens are left out."""
        specials = self.vocabulary.tokenization.specials
        return [index for index, token in enumerate(self.vocabulary.tokens) if token not in specials][:count]

    def directions(self) -> npt.NDArray[np.float32]:
        """The vectors scaled to length 1, float32 [vocabulary, embedding size]; a zero vector stays zero."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return np.asarray(self.vectors / np.where(lengths == 0, 1, lengths), dtype=np.float32)

    def nearest(self, word: str, count: int = 10) -> list[Neighbour]:
        """The words whose vectors are most similar to `word`'s, nearest first, without `word` itself.

        Raises:
            OptionError: The word is not in the vocabulary, or `count` is below 1.
        """
        if count < 1:
            raise OptionError(f"count is {count}, expected 1 or more")
        query, directions = self._id_of(word), self.directions()
        similarities = directions @ directions[query]
        others = [index for index in self.frequent() if index != query]
        others.sort(key=lambda index: -similarities[index])
        return [Neighbour(self.vocabulary.text(index), float(similarities[index])) for index in others[:count]]

    def _id_of(self, word: str) -> int:
        """The word's id; where tokens are parts of words, that of the word after a space, or at the start of a line."""
        if self.vocabulary.tokenization.unit != "subword":
            if word not in self.vocabulary:
                raise OptionError(self._unknown_word(word))
            return self.vocabulary.id(word)
        for written in (f" {word}", word):
            if len(ids := self.vocabulary.encode(written)) == 1:
                return ids[0]
        raise OptionError(self._unknown_word(word))

    def _unknown_word(self, word: str) -> str:
        texts = [self.vocabulary.text(index) for index in self.frequent()]
        spellings = {text.lower(): text for text in texts}
        close = [repr(spellings[match]) for match in difflib.get_close_matches(word.lower(), spellings)]
        return (
            f"{word!r} is not among the {len(self.vocabulary):,} {self.vocabulary.tokenization.unit}s of the "
            f"vocabulary; {'nearest spellings: ' + ', '.join(close) if close else 'none is spelled like it'}"
        )

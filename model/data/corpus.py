"""A corpus: train, valid and test text as token ids of one vocabulary."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import OptionError
from ...runtime.tokenization import Tokenization
from ...runtime.vocabulary import Vocabulary
from ..errors import DataError
from .texts import PYDOCS, read_splits
from .token_ids import count_ids, in_blocks, token_file

AUTO = "auto"


@final
@dataclass(frozen=True, eq=False)
class Corpus:
    """Encoded text.

    Attributes:
        name: `pydocs`, or the folder's path.
        sha256: Hash of the three texts.
        vocabulary: Tokens of the training text: ids by falling count, ties alphabetical.
        ids: Split -> int32 [tokens], read-only and mapped from a temporary file (see `token_ids`).
    """

    name: str
    sha256: str
    vocabulary: Vocabulary
    ids: Mapping[str, NDArray[np.int32]]

    def split(self, name: str) -> NDArray[np.int32]:
        """The ids of `train`, `valid` or `test`.

        Raises:
            OptionError: There is no such split.
        """
        if name not in self.ids:
            raise OptionError(f"there is no split {name!r}, expected one of {', '.join(self.ids)}")
        return self.ids[name]

    def count_unknown(self, split: str) -> int:
        """Number of tokens of `split` outside the vocabulary."""
        return int(self._counts(self.split(split))[self.vocabulary.unknown_id])

    def unigram_perplexity(self, split: str) -> float:
        """Perplexity of `split` under the token frequencies of the training text (add-one smoothing)."""
        counts = self._counts(self.ids["train"]) + 1.0
        log_probs = np.log(counts / counts.sum())
        scored_counts = self._counts(self.split(split)[1:])
        return float(np.exp(-(scored_counts @ log_probs) / scored_counts.sum()))

    def _counts(self, ids: NDArray[np.int32]) -> NDArray[np.int64]:
        return count_ids(in_blocks(ids), len(self.vocabulary))


def load_corpus(name: str, rule: str, min_count: int = 1) -> Corpus:
    """Read a corpus and build its vocabulary. Memory grows with the vocabulary, not with the text.

    Args:
        name: `pydocs`, or the path of a folder of UTF-8 text (see `read_splits`).
        rule: Tokenization rule; `auto` is `words` for pydocs and `whitespace` for a folder.
        min_count: Tokens that are rarer in the training text become the unknown token.

    Raises:
        DataError: There is no such folder, or no text or too little text in it.
        StorageError: A file cannot be read or is not UTF-8, or there is no room for the ids.
    """
    if rule == AUTO:
        rule = "words" if name == PYDOCS else "whitespace"
    tokenization = Tokenization.of_rule(rule)
    with token_file(read_splits(name), tokenization) as texts:
        vocabulary = build_vocabulary(texts.first_counts(), tokenization, min_count)
        _require_words(name, vocabulary, min_count)
        corpus = Corpus(name, texts.sha256, vocabulary, texts.to_ids(vocabulary))
    for split in ("valid", "test"):
        if len(corpus.ids[split]) < 2:
            raise DataError(f"the {split} text of {name} holds {len(corpus.ids[split])} tokens, expected at least 2")
    return corpus


def load_corpus_with(name: str, vocabulary: Vocabulary) -> Corpus:
    """Read a corpus and encode it with the vocabulary of a trained model.

    Raises:
        DataError, StorageError: As for `load_corpus`.
    """
    with token_file(read_splits(name), vocabulary.tokenization) as texts:
        return Corpus(name, texts.sha256, vocabulary, texts.to_ids(vocabulary))


def build_vocabulary(counts: Counter[str], tokenization: Tokenization, min_count: int) -> Vocabulary:
    """A vocabulary by falling count, ties alphabetical; rare tokens count as the unknown token.

    Special tokens that the text does not contain come last.
    """
    kept = Counter({token: count for token, count in counts.items() if count >= min_count})
    if len(kept) < len(counts):
        kept[tokenization.unknown] += counts.total() - kept.total()
    for token in tokenization.specials:
        kept.setdefault(token, 0)
    return Vocabulary(sorted(kept, key=lambda token: (-kept[token], token)), tokenization)


def _require_words(name: str, vocabulary: Vocabulary, min_count: int) -> None:
    words = [token for token in vocabulary.tokens if token not in vocabulary.tokenization.specials]
    if len(words) < 2:
        tokens = f"only the token {words[0]!r}" if words else "no tokens"
        often, fix = (f" seen {min_count} times", "; keep rarer ones: --set min_count=1") if min_count > 1 else ("", "")
        raise DataError(f"the training text of {name} holds {tokens}{often}; expected at least two different ones{fix}")

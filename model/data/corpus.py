"""A corpus: train, valid and test text as token ids over one vocabulary, from a folder or from `pydocs`."""

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
from .token_ids import count_ids, in_blocks, numbered

AUTO = "auto"


@final
@dataclass(frozen=True, eq=False)
class Corpus:
    """Encoded text.

    Attributes:
        name: `pydocs`, or the folder's path.
        sha256: Hash of the three texts.
        vocabulary: Built from the training text: ids by falling count, ties alphabetical.
        ids: Split -> int32 [tokens], read-only and mapped from a temporary file (see `encoding`).
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
        """How many tokens of `split` are outside the vocabulary."""
        return int(self._counts(self.split(split))[self.vocabulary.unknown_id])

    def unigram_perplexity(self, split: str) -> float:
        """Perplexity of `split` under the training text's token frequencies (each count plus one)."""
        counts = self._counts(self.ids["train"]) + 1.0
        log_probs = np.log(counts / counts.sum())
        scored = self._counts(self.split(split)[1:])
        return float(np.exp(-(scored @ log_probs) / scored.sum()))

    def _counts(self, ids: NDArray[np.int32]) -> NDArray[np.int64]:
        return count_ids(in_blocks(ids), len(self.vocabulary))


def load_corpus(name: str, rule: str, min_count: int = 1) -> Corpus:
    """Read a corpus and build its vocabulary. Memory grows with the vocabulary, not with the text.

    Args:
        name: `pydocs`, or the path of a folder of UTF-8 text (see `read_splits`).
        rule: Tokenization rule; `auto` is `words` for pydocs and `whitespace` for a folder.
        min_count: Tokens seen less often in the training text become the unknown token.

    Raises:
        DataError: There is no such folder, no text in it, or too little of it.
        StorageError: A file cannot be read or is not UTF-8, or there is no room for the ids.
    """
    if rule == AUTO:
        rule = "words" if name == PYDOCS else "whitespace"
    tokenization = Tokenization.of_rule(rule)
    with numbered(read_splits(name), tokenization) as texts:
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
        DataError: As for `load_corpus`.
        StorageError: As for `load_corpus`.
    """
    with numbered(read_splits(name), vocabulary.tokenization) as texts:
        return Corpus(name, texts.sha256, vocabulary, texts.to_ids(vocabulary))


def build_vocabulary(counts: Counter[str], tokenization: Tokenization, min_count: int) -> Vocabulary:
    """The tokens that are counted, by falling count, ties alphabetical; rare ones are counted as the unknown token.

    A special token that the text does not hold comes last.
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
        found = f"only the token {words[0]!r}" if words else "no tokens"
        often, fix = (f" seen {min_count} times", "; keep rarer ones: --set min_count=1") if min_count > 1 else ("", "")
        raise DataError(f"the training text of {name} holds {found}{often}; expected at least two different ones{fix}")

"""A corpus: text as token ids of one vocabulary."""

import functools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import OptionError, counted
from ...runtime.text.text_size import TextSize
from ...runtime.tokenization import Tokenization
from ...runtime.vocabulary import Vocabulary
from ..errors import ConfigError, DataError
from .rule import NEWEST, choose_rule
from .texts import ALL, Texts, find_texts
from .token_ids import TokenFile, count_ids, in_blocks, token_file

AUTO = "auto"
MOST_REPEATED = 0.1
"""Share of valid or test (see `repeated_shares`) above which a training points out that train holds their lines."""
_SHOWN_MISSING = 5


class Figures(NamedTuple):
    """What compares models of any tokens on one text; the spelling of unknown tokens counts (see `Score`)."""

    bits_per_byte: float
    word_perplexity: float


@final
@dataclass(frozen=True, eq=False)
class Corpus:
    """Encoded text.

    Attributes:
        name: `pydocs`, or the path of the file or folder.
        sha256: Hash of the texts.
        vocabulary: Tokens of the training text: ids by falling count, ties alphabetical.
        ids: Split -> int32 [tokens], read-only and mapped from a temporary file (see `token_ids`).
        sizes: Split -> bytes and words of its text.
        spelling: Split -> what the spelling of its unknown tokens adds to its log-probability.
        notes: What to know about the corpus, a line each: files that are not read, the choice of the tokenization
            rule, lines of valid and test that are in the training text.
    """

    name: str
    sha256: str
    vocabulary: Vocabulary
    ids: Mapping[str, NDArray[np.int32]]
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, TextSize] = field(default_factory=dict)
    spelling: Mapping[str, float] = field(default_factory=dict)

    def split(self, name: str) -> NDArray[np.int32]:
        """The ids of `train`, `valid` or `test`, or of all of them: `all`.

        Raises:
            OptionError: There is no such split.
        """
        if name in self.ids:
            return self.ids[name]
        if name == ALL:
            return np.concatenate(list(self.ids.values()))
        raise OptionError(f"there is no split {name!r}, expected one of {', '.join([*self.ids, ALL])}")

    def scorable(self, name: str) -> NDArray[np.int32]:
        """The ids of a split, as `split` returns them.

        Raises:
            OptionError: There is no such split.
            DataError: It has fewer than two tokens, so that none is predicted.
        """
        ids = self.split(name)
        if len(ids) < 2:
            text = "text" if name == ALL else f"{name} text"
            raise DataError(f"the {text} of {self.name} holds {counted(len(ids), 'token')}, expected at least 2")
        return ids

    @functools.cached_property
    def train_counts(self) -> NDArray[np.int64]:
        """How often the training text has each token, int64 [vocabulary]."""
        return self._counts(self.ids["train"])

    def count_unknown(self, split: str) -> int:
        """Number of tokens of `split` outside the vocabulary."""
        return int(self._counts(self.split(split))[self.vocabulary.unknown_id])

    def figures(self, split: str, perplexity: float) -> Figures:
        """The figures of a split by a perplexity of its tokens.

        The first token, which no perplexity scores, is left out: its bytes, and with words it itself.
        """
        ids = self.split(split)
        splits = [split] if split in self.ids else list(self.ids)
        sizes = [self.sizes.get(name) or self._size_of_tokens(name) for name in splits]
        first = self.vocabulary.decode(ids[:1].tolist())
        is_word = self.vocabulary.tokenization.unit == "word" or first == "\n"
        words = sum(each.words for each in sizes) - is_word
        size = TextSize(sum(each.bytes for each in sizes) - len(first.encode()), words)
        log_prob = sum(self.spelling.get(name, 0.0) for name in splits) - (len(ids) - 1) * math.log(perplexity)
        return Figures(size.bits_per_byte(log_prob), size.word_perplexity(log_prob))

    def _size_of_tokens(self, split: str) -> TextSize:
        return TextSize.of(self.vocabulary.decode(self.ids[split].tolist()))

    def unigram_log_probs(self) -> NDArray[np.float64]:
        """Logarithms of the token frequencies of the training text (add-one smoothing), float64 [vocabulary]."""
        counts = self.train_counts + 1.0
        log_probs: NDArray[np.float64] = np.log(counts / counts.sum())
        return log_probs

    def unigram_perplexity(self, split: str) -> float:
        """Perplexity of `split` under the `unigram_log_probs`."""
        scored_counts = self._counts(self.split(split)[1:])
        return float(np.exp(-(scored_counts @ self.unigram_log_probs()) / scored_counts.sum()))

    def _counts(self, ids: NDArray[np.int32]) -> NDArray[np.int64]:
        return count_ids(in_blocks(ids), len(self.vocabulary))


def load_corpus(name: str, rule: str, min_count: int = 1, vocabulary_size: int | None = None) -> Corpus:
    """Read a corpus and build its vocabulary. Memory grows with the vocabulary, not with the text.

    Args:
        name: `pydocs`, or the path of a file or a folder of UTF-8 text (see `find_texts`).
        rule: Tokenization rule, in its newest form; `auto` chooses one by the text (see `choose_rule`).
        min_count: Tokens that are rarer in the training text become the unknown token; not for `bpe`.
        vocabulary_size: Tokens of `bpe`; None for 4,000.

    Raises:
        ConfigError: `vocabulary_size` is given for another rule.
        DataError: There is no such file or folder, or no text or too little text in it.
        StorageError: A file cannot be read or is not UTF-8, or there is no room for the ids.
    """
    texts = find_texts(name)
    rule, notes = _rule(texts, rule)
    splits = texts.splits()
    tokenization = Tokenization.of_rule(NEWEST.get(rule, rule))
    if tokenization.unit == "subword":
        tokenization, size_notes = _with_merges(splits, rule, vocabulary_size)
        notes += size_notes
    elif vocabulary_size is not None:
        raise ConfigError(
            f"vocabulary_size is {vocabulary_size}, but tokenization={rule} takes all tokens of the text, or those "
            "that min_count leaves; add --set vocabulary_size=none, or --set tokenization=bpe"
        )
    with token_file(splits, tokenization) as tokens:
        counts = tokens.counts()
        vocabulary = build_vocabulary(counts, tokenization, min_count)
        _require_words(name, counts, vocabulary, min_count)
        notes += _repetition_notes(tokens.repeated_lines(tokenization))
        corpus = _corpus(name, tokens, vocabulary, (*texts.notes(), *notes))
    return require_tokens(corpus)


def _corpus(name: str, tokens: TokenFile, vocabulary: Vocabulary, notes: tuple[str, ...]) -> Corpus:
    spelling = tokens.spelling(vocabulary)
    return Corpus(name, tokens.sha256, vocabulary, tokens.to_ids(vocabulary), notes, tokens.sizes, spelling)


def require_tokens(corpus: Corpus) -> Corpus:
    """Return `corpus`; DataError if one of its texts has fewer than two tokens."""
    for split in corpus.ids:
        corpus.scorable(split)
    return corpus


def load_corpus_with(
    name: str,
    vocabulary: Vocabulary,
    whole: bool | None = False,
    split: str | None = None,
    *,
    to_train: bool = False,
) -> Corpus:
    """Read a corpus and encode it with the vocabulary of a trained model.

    Args:
        name: As for `load_corpus`.
        vocabulary: The vocabulary.
        whole: Do not divide the text: the only split is `all`; None divides all but a single file.
        split: The split whose missing tokens the notes name; None for the first.
        to_train: Name repeated lines in the notes, as `load_corpus` does.

    Raises:
        DataError, StorageError: As for `load_corpus`.
    """
    texts = find_texts(name)
    whole = texts.is_file if whole is None else whole
    with token_file({ALL: texts.whole()} if whole else texts.splits(), vocabulary.tokenization) as tokens:
        notes = [*texts.notes(), *_missing_notes(tokens.counts(None if whole else split), vocabulary)]
        if to_train:
            notes += _repetition_notes(tokens.repeated_lines(vocabulary.tokenization))
        return _corpus(name, tokens, vocabulary, tuple(notes))


def build_vocabulary(counts: Counter[str], tokenization: Tokenization, min_count: int) -> Vocabulary:
    """A vocabulary by falling count, ties alphabetical; rare tokens count as the unknown token.

    Tokens that every vocabulary of this tokenization holds, and the text does not, come last.
    """
    required = set(tokenization.required)
    kept = Counter({token: count for token, count in counts.items() if count >= min_count or token in required})
    if len(kept) < len(counts):
        kept[tokenization.unknown] += counts.total() - kept.total()
    for token in required:
        kept.setdefault(token, 0)
    return Vocabulary(sorted(kept, key=lambda token: (-kept[token], token)), tokenization)


def _rule(texts: Texts, rule: str) -> tuple[str, list[str]]:
    """The tokenization rule, and a note if it is chosen here."""
    if rule != AUTO:
        return rule, []
    choice = choose_rule(texts)
    return choice.rule, [f"tokenization {choice.rule}: {choice.reason} (another one: --set tokenization=RULE)"]


def _with_merges(splits: Mapping[str, Iterable[str]], rule: str, size: int | None) -> tuple[Tokenization, list[str]]:
    """The tokenization with the merges of the training text, and a note if that gives fewer tokens than wanted."""
    from .merges import DEFAULT_TOKENS, learn_merges  # few trainings need tokenizers

    wanted = DEFAULT_TOKENS if size is None else size
    tokenization = Tokenization.of_rule(rule, learn_merges(next(iter(splits.values())), wanted))
    found = len(tokenization.required)
    few = f"the training text gives {found:,} tokens, not {wanted:,}: no pair of tokens occurs twice any more"
    return tokenization, [few] if found < wanted else []


def _missing_notes(counts: Counter[str], vocabulary: Vocabulary) -> list[str]:
    """What the vocabulary lacks of a text with these counts."""
    known = {vocabulary.tokenization.unknown}
    missing = Counter({x: n for x, n in counts.items() if vocabulary.id(x) == vocabulary.unknown_id and x not in known})
    if not missing:
        return []
    often = ", ".join(f"{token!r} {count:,}" for token, count in missing.most_common(_SHOWN_MISSING))
    return [
        f"the vocabulary lacks {missing.total() / counts.total():.1%} of the text's tokens ({len(missing):,} different "
        f"ones), most often {often}"
    ]


def _repetition_notes(shares: Mapping[str, float]) -> list[str]:
    found = [
        f"{share:.0%} of the tokens in longer lines of {split}"
        for split, share in shares.items()
        if share > MOST_REPEATED
    ]
    known = "are in lines of the training text too, so their perplexity is that of known text"
    return [f"{' and '.join(found)} {known}; if they are copies, remove them"] if found else []


def _require_words(name: str, counts: Counter[str], vocabulary: Vocabulary, min_count: int) -> None:
    specials = vocabulary.tokenization.specials
    found = [token for token in counts if token not in specials]
    kept = [token for token in found if token in vocabulary]
    if not found:
        raise DataError(f"the training text of {name} is empty or white space, expected lines of text")
    if len(kept) < 2:
        tokens = f"only the token {kept[0]!r}" if kept else "no token"
        often = f" seen {min_count} times or more" if len(kept) < len(found) else ""
        fix = "; keep rarer ones: --set min_count=1" if len(found) > 1 else ""
        raise DataError(f"the training text of {name} holds {tokens}{often}; expected at least two different ones{fix}")

"""Token ids of texts of any size: tokenized once, kept in a temporary file, mapped read-only.

Memory holds one chunk of text and the distinct tokens. The file takes 4 bytes per token, has no name, lies in the
folder TMPDIR and vanishes with the last array that maps it. For very large texts TMPDIR should be on a disk: some
systems keep `/tmp` in memory. Mapped ids that were read count as resident memory, which the system can reclaim.
"""

import contextlib
import hashlib
import itertools
import math
import mmap
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, final

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import StorageError
from ...runtime.score import spelling_log_probs
from ...runtime.text.text_size import TextCounter, TextSize
from ...runtime.tokenization import Tokenization
from ...runtime.vocabulary import Vocabulary
from .repeats import FEWEST_TOKENS, repeated_shares

_BLOCK = 1 << 18
_ID_BYTES = 4

Ids = NDArray[np.int32]


@contextlib.contextmanager
def token_file(texts: Mapping[str, Iterable[str]], tokenization: Tokenization) -> Iterator["TokenFile"]:
    """Tokenize `texts` into a temporary file, for a `with` block.

    Raises:
        StorageError: A text cannot be read, or the temporary file cannot be written.
    """
    try:
        with tempfile.TemporaryFile() as file:
            yield TokenFile(texts, tokenization, file)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"cannot write the corpus' token ids to a temporary file: {error.strerror or error}; they take "
            f"{_ID_BYTES} bytes a token, name a folder with room for them: TMPDIR=DIR"
        ) from error


@final
class TokenFile:
    """The tokens of several texts as numbers in a file; tokens are numbered by their first appearance.

    `to_ids` turns the numbers into ids once the vocabulary is known, so texts are read and tokenized only once.

    Attributes:
        sha256: Hash of the hashes of the texts.
        sizes: Bytes and words of each text.
    """

    def __init__(self, texts: Mapping[str, Iterable[str]], tokenization: Tokenization, file: IO[bytes]) -> None:
        """Tokenize the texts in order and write the numbers to `file`."""
        self._file = file
        self._numbers: defaultdict[str, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__  # an unseen token gets the next number
        self._ends = {}
        self.sizes: dict[str, TextSize] = {}
        digest = hashlib.sha256()
        end = 0
        for split, text in texts.items():
            text_digest, counter = hashlib.sha256(), TextCounter()
            end += sum(map(self._append, tokenization.split_chunks(_read(text, text_digest, counter))))
            self._ends[split], self.sizes[split] = end, counter.size
            digest.update(text_digest.digest())
        self._numbers.default_factory = None
        self.sha256 = digest.hexdigest()

    def counts(self, name: str | None = None) -> Counter[str]:
        """Token -> count in the text `name`; None for the first."""
        ends = list(self._ends.values())
        index = 0 if name is None else list(self._ends).index(name)
        counts = count_ids(self._blocks(ends[index - 1] if index else 0, ends[index]), len(self._numbers))
        return Counter({token: count for token, count in zip(self._numbers, counts.tolist(), strict=True) if count})

    def spelling(self, vocabulary: Vocabulary) -> dict[str, float]:
        """What the spelling of the unknown tokens of each text adds to its log-probability (see `Score`)."""
        if all(token in vocabulary for token in self._numbers):
            return dict.fromkeys(self._ends, 0.0)
        return {split: _spelling(self.counts(split), vocabulary) for split in self._ends}

    def repeated_lines(self, tokenization: Tokenization) -> dict[str, float]:
        """How much of each text after the first is lines of the first (see `repeated_shares`)."""
        newline = self._numbers.get(tokenization.end_of_sentence, -1)
        starts = dict(zip(self._ends, (0, *self._ends.values()), strict=False))
        first, *others = ((split, self._blocks(starts[split], end)) for split, end in self._ends.items())
        return repeated_shares(first[1], dict(others), newline, FEWEST_TOKENS[tokenization.unit])

    def to_ids(self, vocabulary: Vocabulary) -> dict[str, Ids]:
        """Replace the numbers by ids, also in the file; call this last.

        Returns:
            Split -> int32 [tokens], mapped from the file and read-only.
        """
        table = np.fromiter(map(vocabulary.id, self._numbers), np.int32, len(self._numbers))
        ends = list(self._ends.values())
        for at, stop in _blocks(ends[-1]):
            ids = table[self._read(at, stop)]
            self._file.seek(at * _ID_BYTES)
            self._file.write(ids.data)
        return dict(zip(self._ends, np.split(self._mapped(ends[-1]), ends[:-1]), strict=True))

    def _append(self, tokens: list[str]) -> int:
        numbers = np.fromiter(map(self._numbers.__getitem__, tokens), np.int32, len(tokens))
        self._file.write(numbers.data)
        return len(tokens)

    def _blocks(self, start: int, stop: int) -> Iterator[Ids]:
        return (self._read(start + at, start + end) for at, end in _blocks(stop - start))

    def _read(self, start: int, stop: int) -> Ids:
        self._file.seek(start * _ID_BYTES)
        return np.frombuffer(self._file.read((stop - start) * _ID_BYTES), np.int32)

    def _mapped(self, count: int) -> Ids:
        if not count:
            return np.zeros(0, np.int32)  # an empty file cannot be mapped
        self._file.flush()
        return np.frombuffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ), np.int32)


def count_ids(blocks: Iterable[Ids], size: int) -> NDArray[np.int64]:
    """Count of each id below `size` over all blocks, int64 [size]."""
    counts = np.zeros(size, np.int64)
    for block in blocks:
        block_counts = np.bincount(block)
        counts[: len(block_counts)] += block_counts
    return counts


def in_blocks(ids: Ids) -> Iterator[Ids]:
    """Views of `ids` that are small enough to copy."""
    return (ids[at:stop] for at, stop in _blocks(len(ids)))


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    return itertools.pairwise([*range(0, count, _BLOCK), count])


def _read(text: Iterable[str], digest: Any, counter: TextCounter) -> Iterator[str]:
    """Yield the chunks; update `digest` with them, and count them."""
    for chunk in text:
        digest.update(chunk.encode())
        counter.add(chunk)
        yield chunk


def _spelling(counts: Counter[str], vocabulary: Vocabulary) -> float:
    tokens = list(counts)
    log_probs = spelling_log_probs(tokens, vocabulary.ids(tokens), vocabulary)
    return math.fsum(counts[token] * log_prob for token, log_prob in zip(tokens, log_probs, strict=True))

"""Texts of any size as token ids: split once, kept in a temporary file, mapped read-only.

Memory holds a chunk of text and the distinct tokens. The file takes 4 bytes a token, has no name, lies in the folder
that TMPDIR names and is gone with the last array that maps it. For very large texts that folder should be on a disk:
where it is kept in memory, as `/tmp` is on some systems, so are the ids. What is read of the mapped ids counts as
resident memory, but the system takes it back when it needs it.
"""

import contextlib
import hashlib
import itertools
import mmap
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, final

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import StorageError
from ...runtime.tokenization import Tokenization
from ...runtime.vocabulary import Vocabulary

_BLOCK = 1 << 18
_ID_BYTES = 4

Ids = NDArray[np.int32]


@contextlib.contextmanager
def numbered(texts: Mapping[str, Iterable[str]], tokenization: Tokenization) -> Iterator["NumberedTexts"]:
    """Number the tokens of `texts`, for a `with` block.

    Raises:
        StorageError: A text cannot be read, or the temporary file cannot be written.
    """
    try:
        with tempfile.TemporaryFile() as file:
            yield NumberedTexts(texts, tokenization, file)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"cannot write the corpus' token ids to a temporary file: {error.strerror or error}; they take "
            f"{_ID_BYTES} bytes a token, name a folder with room for them: TMPDIR=DIR"
        ) from error


@final
class NumberedTexts:
    """Texts as numbers in a file; a token's number is its place in the order in which tokens first appear.

    Numbers become ids when the vocabulary is known, so that the text need not be read and split a second time.

    Attributes:
        sha256: Hash of the hashes of the texts.
    """

    def __init__(self, texts: Mapping[str, Iterable[str]], tokenization: Tokenization, file: IO[bytes]) -> None:
        """Read the texts in their order and write their numbers to `file`."""
        self._file = file
        self._numbers: defaultdict[str, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__  # an unseen token gets the next number
        self._ends = {}
        digest = hashlib.sha256()
        end = 0
        for split, text in texts.items():
            text_digest = hashlib.sha256()
            end += sum(map(self._append, tokenization.split_chunks(_hashed(text, text_digest))))
            self._ends[split] = end
            digest.update(text_digest.digest())
        self._numbers.default_factory = None
        self.sha256 = digest.hexdigest()

    def first_counts(self) -> Counter[str]:
        """How often each token appears in the first text."""
        first = next(iter(self._ends.values()))
        counts = count_ids((self._read(at, stop) for at, stop in _blocks(first)), len(self._numbers))
        return Counter({token: count for token, count in zip(self._numbers, counts.tolist(), strict=True) if count})

    def to_ids(self, vocabulary: Vocabulary) -> dict[str, Ids]:
        """Turn the numbers into ids, in the file too: this is the last thing to do with it.

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

    def _read(self, start: int, stop: int) -> Ids:
        self._file.seek(start * _ID_BYTES)
        return np.frombuffer(self._file.read((stop - start) * _ID_BYTES), np.int32)

    def _mapped(self, count: int) -> Ids:
        if not count:
            return np.zeros(0, np.int32)  # an empty file cannot be mapped
        self._file.flush()
        return np.frombuffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ), np.int32)


def count_ids(blocks: Iterable[Ids], size: int) -> NDArray[np.int64]:
    """How often each id from 0 to before `size` appears in all the blocks, int64 [size]."""
    counts = np.zeros(size, np.int64)
    for block in blocks:
        found = np.bincount(block)
        counts[: len(found)] += found
    return counts


def in_blocks(ids: Ids) -> Iterator[Ids]:
    """`ids` in views of a size that a copy may have."""
    return (ids[at:stop] for at, stop in _blocks(len(ids)))


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    return itertools.pairwise([*range(0, count, _BLOCK), count])


def _hashed(text: Iterable[str], digest: Any) -> Iterator[str]:
    """The same chunks; `digest` is fed on the way."""
    for chunk in text:
        digest.update(chunk.encode())
        yield chunk

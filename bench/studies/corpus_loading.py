"""How fast a corpus is read and encoded, and in how much memory; the loading has a process of its own (Linux).

A generated text, whose words are as frequent as Zipf's law says, or a corpus that is there already:

    python -m lmtool.bench.studies.corpus_loading --words 100000000
    python -m lmtool.bench.studies.corpus_loading --data ptb

The text takes 6 bytes a word and the ids 4, both in the folder that TMPDIR names.
"""

import argparse
import itertools
import multiprocessing
import string
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from ...model.data.corpus import load_corpus
from ...runtime.errors import LmtoolError
from ..errors import BenchError

_LETTERS = 5
_LINE_WORDS = 20
_BLOCK_WORDS = 1_000_000
_HELD_OUT_WORDS = 1000


@final
@dataclass(frozen=True)
class Loading:
    """What loading a corpus took.

    Attributes:
        tokens: Tokens of the three splits, line ends among them.
        vocabulary: Size of the vocabulary.
        seconds: Time of `load_corpus`.
        processor_seconds: Processor time of it, less than that where the machine was busy or the disk slow.
        resident_before_bytes: Peak of the process' resident memory before it.
        resident_peak_bytes: Peak of the process' resident memory after it.
    """

    tokens: int
    vocabulary: int
    seconds: float
    processor_seconds: float
    resident_before_bytes: int
    resident_peak_bytes: int

    def format(self) -> str:
        """All of it in one line."""
        return (
            f"{self.tokens:,} tokens, a vocabulary of {self.vocabulary:,}, in {self.seconds:.2f} s: "
            f"{self.tokens / self.seconds:,.0f} tokens/s ({self.processor_seconds:.2f} s of processor time: "
            f"{self.tokens / self.processor_seconds:,.0f}); peak of resident memory "
            f"{self.resident_peak_bytes / 1e6:,.0f} MB, {self.resident_before_bytes / 1e6:,.0f} MB before"
        )


def measure_loading(data: str) -> Loading:
    """Load the corpus `data`, `pydocs` or a folder, in a new process.

    Raises:
        LmtoolError: The corpus cannot be loaded.
        BenchError: This system does not tell a process' peak memory.
    """
    context = multiprocessing.get_context("spawn")  # a fork would begin with this process' memory
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(_load, data).result()


def write_zipf_corpus(folder: Path, words: int, distinct: int) -> None:
    """Write train.txt with so many words, and a short valid.txt and test.txt; the frequency of the k-th word is as 1/k.

    Raises:
        BenchError: There are not so many words of five letters.
    """
    if not 1 <= distinct <= len(string.ascii_lowercase) ** _LETTERS or words < 1:
        raise BenchError(
            f"{words:,} words, {distinct:,} of them distinct, cannot be written; expected 1 or more, and 1 to "
            f"{len(string.ascii_lowercase) ** _LETTERS:,} distinct"
        )
    spellings = map("".join, itertools.product(string.ascii_lowercase, repeat=_LETTERS))
    vocabulary = list(itertools.islice(spellings, distinct))
    shares = np.cumsum(1 / np.arange(1, distinct + 1))
    random = np.random.default_rng(0)
    for split, count in (("train", words), ("valid", _HELD_OUT_WORDS), ("test", _HELD_OUT_WORDS)):
        with (folder / f"{split}.txt").open("w") as file:
            for start in range(0, count, _BLOCK_WORDS):
                draws = random.random(min(_BLOCK_WORDS, count - start)) * shares[-1]
                chosen = [vocabulary[rank] for rank in np.searchsorted(shares, draws).tolist()]
                for at in range(0, len(chosen), _LINE_WORDS):
                    file.write(f"{' '.join(chosen[at : at + _LINE_WORDS])}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m lmtool.bench.studies.corpus_loading", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--words", type=int, default=1_000_000, help="generate a text of so many words")
    parser.add_argument("--distinct", type=int, default=100_000, help="of so many different ones")
    parser.add_argument("--data", help="load this corpus instead: pydocs, or a folder")
    options = parser.parse_args(arguments)
    try:
        sys.stdout.write(f"{_run(options.data, options.words, options.distinct).format()}\n")
    except LmtoolError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _run(data: str | None, words: int, distinct: int) -> Loading:
    if data is not None:
        return measure_loading(data)
    with tempfile.TemporaryDirectory() as folder:
        write_zipf_corpus(Path(folder), words, distinct)
        return measure_loading(folder)


def _load(data: str) -> Loading:
    before = _peak_bytes()
    began, processor_began = time.perf_counter(), time.process_time()
    corpus = load_corpus(data, "auto")
    seconds, processor_seconds = time.perf_counter() - began, time.process_time() - processor_began
    tokens = sum(map(len, corpus.ids.values()))
    return Loading(tokens, len(corpus.vocabulary), seconds, processor_seconds, before, _peak_bytes())


def _peak_bytes() -> int:
    """The peak of this process' resident memory; `getrusage` would give the parent's where that is higher."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError as error:
        raise BenchError("peak memory is read from /proc/self/status, which this system lacks; use Linux") from error
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    sys.exit(main())

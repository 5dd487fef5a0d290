"""Measure how fast a corpus loads and how much memory that takes (Linux).

The corpus is a generated text with Zipf-distributed words, or an existing one:

    python bench/studies/corpus_loading.py --words 100000000
    python bench/studies/corpus_loading.py --data ptb

The generated text takes 6 bytes a word and the token ids 4, both in the folder that TMPDIR names.
"""

import argparse
import itertools
import multiprocessing
import string
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from common.program import run_program
from lmtool.bench.environment import peak_bytes
from lmtool.bench.errors import BenchError
from lmtool.model.data.corpus import load_corpus

_LETTERS = 5
_LINE_WORDS = 20
_BLOCK_WORDS = 1_000_000
_HELD_OUT_WORDS = 1000


@final
@dataclass(frozen=True)
class LoadingCost:
    """Time and memory that loading a corpus takes.

    Attributes:
        tokens: Tokens of the three splits, line ends included.
        vocabulary: Size of the vocabulary.
        seconds: Time of `load_corpus`.
        processor_seconds: Its processor time; less than `seconds` if the machine is busy or the disk slow.
        resident_before_bytes: Peak resident memory before loading.
        resident_peak_bytes: Peak resident memory after loading.
    """

    tokens: int
    vocabulary: int
    seconds: float
    processor_seconds: float
    resident_before_bytes: int
    resident_peak_bytes: int

    def format(self) -> str:
        """The measurement in one line."""
        return (
            f"{self.tokens:,} tokens, a vocabulary of {self.vocabulary:,}, in {self.seconds:.2f} s: "
            f"{self.tokens / self.seconds:,.0f} tokens/s ({self.processor_seconds:.2f} s of processor time: "
            f"{self.tokens / self.processor_seconds:,.0f}); peak of resident memory "
            f"{self.resident_peak_bytes / 1e6:,.0f} MB, {self.resident_before_bytes / 1e6:,.0f} MB before"
        )


def measure_loading(data: str) -> LoadingCost:
    """Load the corpus `data` (`pydocs` or a folder) in a new process.

    Raises:
        LmtoolError: The corpus cannot be loaded.
        BenchError: This system does not report a process' peak memory.
    """
    context = multiprocessing.get_context("spawn")  # a forked process would start with this process' memory
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(_load, data).result()


def _load(data: str) -> LoadingCost:
    before = _peak_bytes()
    start, processor_start = time.perf_counter(), time.process_time()
    corpus = load_corpus(data, "auto")
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor_start
    tokens = sum(map(len, corpus.ids.values()))
    return LoadingCost(tokens, len(corpus.vocabulary), seconds, processor_seconds, before, _peak_bytes())


def _peak_bytes() -> int:
    peak = peak_bytes()  # getrusage would report the parent's peak where that is higher
    if peak is None:
        raise BenchError("peak memory is read from /proc/self/status, which this system lacks; use Linux")
    return peak


def write_zipf_corpus(folder: Path, words: int, distinct: int) -> None:
    """Write train.txt with `words` words and short valid.txt and test.txt; the k-th word has a frequency of 1/k.

    Raises:
        BenchError: There are not `distinct` words of five letters.
    """
    if not 1 <= distinct <= len(string.ascii_lowercase) ** _LETTERS or words < 1:
        raise BenchError(
            f"{words:,} words, {distinct:,} of them distinct, cannot be written; expected 1 or more, and 1 to "
            f"{len(string.ascii_lowercase) ** _LETTERS:,} distinct"
        )
    spellings = map("".join, itertools.product(string.ascii_lowercase, repeat=_LETTERS))
    vocabulary = list(itertools.islice(spellings, distinct))
    cumulative = np.cumsum(1 / np.arange(1, distinct + 1))
    random = np.random.default_rng(0)
    for split, count in (("train", words), ("valid", _HELD_OUT_WORDS), ("test", _HELD_OUT_WORDS)):
        with (folder / f"{split}.txt").open("w") as file:
            for start in range(0, count, _BLOCK_WORDS):
                draws = random.random(min(_BLOCK_WORDS, count - start)) * cumulative[-1]
                block = [vocabulary[rank] for rank in np.searchsorted(cumulative, draws).tolist()]
                for line in range(0, len(block), _LINE_WORDS):
                    file.write(f"{' '.join(block[line : line + _LINE_WORDS])}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--words", type=int, default=1_000_000, help="words of the generated text")
    parser.add_argument("--distinct", type=int, default=100_000, help="distinct words of the generated text")
    parser.add_argument("--data", help="load this corpus instead: pydocs, or a folder")
    options = parser.parse_args(arguments)
    if options.data is not None:
        print(measure_loading(options.data).format())
        return
    with tempfile.TemporaryDirectory() as folder:
        write_zipf_corpus(Path(folder), options.words, options.distinct)
        print(measure_loading(folder).format())


if __name__ == "__main__":
    run_program(main)

"""A KenLM n-gram over a run's tokens and vocabulary, for the studies that compare with it.

`lmplz` and `build_binary` are built outside: get KenLM's sources, then `cmake -B build && cmake --build build`, which
needs Boost; the programs are in `build/bin`.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lmtool.runtime import Vocabulary

if TYPE_CHECKING:  # it loads torch, which a timed process must not
    from lmtool.model import Run

UNKNOWN = "<unknown>"  # lmplz reserves <unk>
END = "</s>"


def kenlm_words(vocabulary: Vocabulary) -> list[str]:
    """The vocabulary as KenLM writes it, by id."""
    special = {vocabulary.unknown_id: UNKNOWN, vocabulary.end_of_sentence_id: END}
    return [special.get(index, word) for index, word in enumerate(vocabulary.tokens)]


def kenlm_lines(run: "Run", split: str) -> Iterator[str]:
    """The lines of a split of the run's corpus."""
    words = kenlm_words(run.vocabulary())
    line: list[str] = []
    for token in run.corpus().split(split):
        if words[token] == END:
            yield " ".join(line)
            line = []
        else:
            line.append(words[token])


def build_kenlm(run: "Run", programs: Path, work: Path, name: str, order: int, prune: tuple[int, ...] = ()) -> None:
    """Write NAME.arpa and NAME.binary, a trie with 8-bit numbers, with modified Kneser-Ney smoothing.

    Args:
        run: Its training text is read.
        programs: The folder of `lmplz` and `build_binary`.
        work: Folder for the files.
        name: Of the files.
        order: Longest n-grams.
        prune: For each order the count up to which its n-grams are left out; empty for none.
    """
    text, arpa = work / "train.txt", work / f"{name}.arpa"
    text.write_text("\n".join(kenlm_lines(run, "train")) + "\n")
    command = [programs / "lmplz", "-o", str(order), "--discount_fallback", "-T", work, "--text", text, "--arpa", arpa]
    if prune:
        command += ["--prune", *map(str, prune)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    command = [programs / "build_binary", "-q", "8", "-b", "8", "trie", arpa, work / f"{name}.binary"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

"""Compare what the suggestions of lmtool and of Kneser-Ney n-grams save on one text, by `lmtool evaluate --typing`.

    python bench/studies/keyboard.py --run RUN --kenlm FOLDER --work FOLDER [--lines N] [--rounds N]

RUN is a finished run with its fp32 and int8 exports, trained with `--set tokenization=words`. KenLM's FOLDER holds
`lmplz` and `build_binary` (see `common/kenlm_model.py`). Beside lmtool[train,cpu] nothing is needed; where the Python
module kenlm is installed, the n-gram's logarithms are compared with KenLM's own first.

All models have the run's vocabulary and training text, and suggest with the same rules for letters, marks and letter
case. The n-grams are written by KenLM and read by `ngram`, which finds all next words at once. The sizes are those of
KenLM's tries with 8-bit numbers; the n-grams that type have exact ones. Models take turns, each in a process of its
own, one thread. Times are the processor's, so that other work on the machine counts little: medians of the rounds with
their range.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from common.kenlm_model import build_kenlm, kenlm_lines
from common.program import run_program
from lmtool.bench.environment import describe_environment
from lmtool.model.data.texts import find_texts
from lmtool.model.keyboard.evaluation import typing_figures
from lmtool.model.keyboard.lines import typed_lines
from lmtool.model.keyboard.typist import ASKED, Suggester, Typist
from lmtool.runtime import Artifact, Autocompletion, Predictor
from lmtool.runtime.io.text_table import text_table
from ngram import Ngram, NgramSuggester, largest_difference

SPLIT = "test"
COMPARED_LINES = 20


class Grams(NamedTuple):
    """An n-gram model: its files' name, its order, and what is pruned (see `build_kenlm`)."""

    file: str
    order: int
    prune: tuple[int, ...] = ()


NGRAMS = {
    "KenLM 5-gram": Grams("5-gram", 5),
    "KenLM 5-gram, pruned": Grams("5-gram-pruned", 5, (0, 0, 0, 0, 1)),
    "KenLM 5-gram, pruned twice": Grams("5-gram-pruned-twice", 5, (0, 0, 0, 1, 1)),
    "KenLM 2-gram": Grams("2-gram", 2),
}
NETWORKS = {"lmtool int8": "model.int8.onnx", "lmtool fp32": "model.onnx"}
NAMES = (*NETWORKS, *NGRAMS)


def figures_of(name: str, run: Path, work: Path, data: str, lines: int | None, ignore_case: bool) -> dict[str, Any]:
    """The figures of one model."""
    typist = Typist(_suggester(name, run, work), ignore_case, time.thread_time)
    for line in islice(typed_lines(find_texts(data).of_split(SPLIT)), lines):
        typist.type(line)
    return typing_figures(typist.counts)


def _suggester(name: str, run: Path, work: Path) -> Suggester:
    if name in NETWORKS:
        return Autocompletion(Predictor.load(run / NETWORKS[name]), ASKED)
    vocabulary = Artifact.read(run / NETWORKS["lmtool fp32"]).vocabulary
    return NgramSuggester(Ngram(work / f"{NGRAMS[name].file}.arpa", vocabulary), vocabulary, ASKED)


def _measured(name: str, chosen: argparse.Namespace, data: str, ignore_case: bool) -> dict[str, Any]:
    """The same from a process that loads nothing else."""
    command = [sys.executable, __file__, "--run", chosen.run, "--work", chosen.work, "--data", data, "--measure", name]
    command += ["--lines", str(chosen.lines)] if chosen.lines is not None else []
    command += ["--ignore-case"] if ignore_case else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    figures: dict[str, Any] = json.loads(finished.stdout)
    return figures


def _build(chosen: argparse.Namespace) -> str:
    """Build what is missing; return the name of the corpus."""
    from lmtool.model import Run  # loads torch, which a process that types must not

    run = Run(chosen.run)
    chosen.work.mkdir(parents=True, exist_ok=True)
    for grams in _missing(chosen.work):
        build_kenlm(run, chosen.kenlm, chosen.work, *grams)
    try:
        import kenlm  # noqa: F401
    except ImportError:
        print("the module kenlm is not installed: the n-gram's logarithms were not compared with KenLM's")
    else:
        vocabulary, arpa = run.vocabulary(), chosen.work / "5-gram.arpa"
        lines = list(islice(kenlm_lines(run, SPLIT), COMPARED_LINES))
        largest = largest_difference(Ngram(arpa, vocabulary), arpa, vocabulary, lines)
        print(f"largest difference of a logarithm from KenLM's own, in {len(lines)} lines: {largest:.1e}")
    return run.corpus_name()


def _missing(work: Path) -> list[Grams]:
    """The n-grams that are not built yet."""
    return [grams for grams in NGRAMS.values() if not (work / f"{grams.file}.binary").exists()]


def _size(name: str, chosen: argparse.Namespace) -> int:
    path = chosen.run / NETWORKS[name] if name in NETWORKS else chosen.work / f"{NGRAMS[name].file}.binary"
    return int(path.stat().st_size)


def _compare(chosen: argparse.Namespace, data: str) -> str:
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    for _ in range(chosen.rounds):
        for name, figures in rounds.items():
            figures.append(_measured(name, chosen, data, False))
    rows = [("", "file MB", "top-1", "top-3", "top-5", "saved", "any case: top-1", "top-3", "top-5", "saved")]
    rows[0] += ("p50 ms", "p99 ms")
    for name, figures in rounds.items():
        shares = [
            f"{values[field]:.1%}"
            for values in (figures[0], _measured(name, chosen, data, True))
            for field in ("top1", "top3", "top5", "keystrokes_saved")
        ]
        times = [_spread([values[field] for values in figures]) for field in ("p50_ms", "p99_ms")]
        rows.append((name, f"{_size(name, chosen) / 1e6:.1f}", *shares, *times))
    first = rounds[NAMES[0]][0]
    what = f"{first['letters']:,} letters, {first['words']:,} words"
    return "\n".join([f"{describe_environment()['processor']}; {what}", *text_table(rows, "<>")])


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> int:
    """Build missing models, measure in rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="finished run with fp32 and int8 exports")
    parser.add_argument("--work", type=Path, required=True, help="folder for the n-grams")
    parser.add_argument("--kenlm", type=Path, help="folder of lmplz and build_binary")
    parser.add_argument("--lines", type=int, help="number of first lines to type; all by default")
    parser.add_argument("--rounds", type=int, default=3)
    for option in ("--data", "--measure"):
        parser.add_argument(option, help=argparse.SUPPRESS)
    parser.add_argument("--ignore-case", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure is not None:
        options = (chosen.run, chosen.work, chosen.data, chosen.lines, chosen.ignore_case)
        print(json.dumps(figures_of(chosen.measure, *options)))
        return 0
    missing = [grams.file for grams in _missing(chosen.work)]
    if missing and chosen.kenlm is None:
        parser.error(f"{', '.join(missing)} are not built yet: --kenlm names the folder of lmplz and build_binary")
    print(_compare(chosen, _build(chosen)))
    return 0


if __name__ == "__main__":
    run_program(main)

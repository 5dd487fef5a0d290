"""Rescore n-best lists with lmtool and with KenLM: word error rates, time and memory.

    python bench/studies/rescoring.py --run RUN --model FILE --kenlm FOLDER --work FOLDER \
        --dev LISTS REFERENCES --test LISTS REFERENCES [--rounds N] [--rate FILE]...

RUN is trained on the Penn Treebank, FILE is its artifact, and the lists are those of `nbest_lists`. KenLM's FOLDER
holds `lmplz`, `build_binary` and `query` (see `common/kenlm_model.py`). It needs lmtool[train,cpu,rescore].

All models have the run's vocabulary and training text. Words outside it cost the same in all of them: the probability
of the unknown token, and their spelling (see `lmtool.runtime.Score`). Weights are tuned on the development lists by the
search of `lmtool rescore --tune`; with two models, both weights and the word bonus together. Intervals are of 10,000
bootstrap samples of the test's utterances.

Calls have one thread. Times are the processor's, as other work on the machine disturbs them less; ways to score take
turns, round by round.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
from common.kenlm_model import build_kenlm, kenlm_words
from common.program import run_program
from lmtool.bench.environment import describe_environment
from lmtool.cli.rescoring.references import read_references, word_errors
from lmtool.runtime import Predictor, Rescorer
from lmtool.runtime.io.text_table import text_table
from lmtool.runtime.rescoring.tuning import JudgedList, tune
from lmtool.runtime.score import spelled_ids
from numpy.typing import NDArray

ORDERS = (3, 5)
SAMPLES = 10_000
_RATED_LISTS, _ALONE_SHARE = 100, 10
_KIBIBYTE = 1024
_LAUNCHER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stderr=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
"""
"""A small process: the peak memory of a child includes that of its parent when it was started."""

WAYS = {
    "word bonus alone": ("nothing", "words"),
    "KenLM 3-gram": ("KenLM 3-gram", "words"),
    "KenLM 5-gram": ("KenLM 5-gram", "words"),
    "lmtool": ("lmtool", "words"),
    "lmtool and KenLM 5-gram": ("lmtool", "KenLM 5-gram", "words"),
}
"""What is tuned: the features of each row of the table."""


class Part(NamedTuple):
    """The lists of one split.

    Attributes:
        texts: Of each list.
        scores: The recogniser's, of each list.
        errors: int64 [hypotheses], of each list.
        result_errors: Errors of the recogniser's own result, of each list.
        words: Of each reference.
    """

    texts: list[list[str]]
    scores: list[NDArray[np.float64]]
    errors: list[NDArray[np.int64]]
    result_errors: NDArray[np.int64]
    words: NDArray[np.int64]


def read_part(lists: Path, references: Path) -> Part:
    """Read lists and references, and count the errors."""
    said = read_references(references)
    values = [json.loads(line) for line in lists.read_text().splitlines()]
    texts = [[each["text"] for each in value["hypotheses"]] for value in values]
    judged = [word_errors(said[value["id"]], [value["result"], *own]) for value, own in zip(values, texts, strict=True)]
    return Part(
        texts,
        [np.array([each["score"] for each in value["hypotheses"]]) for value in values],
        [each[1:] for each in judged],
        np.array([each[0] for each in judged]),
        np.array([len(said[value["id"]].split()) for value in values]),
    )


class Cost(NamedTuple):
    """Processor time and memory of a program."""

    seconds: float
    peak_bytes: int


def run_measured(command: list[str], stdin: Path) -> tuple[str, Cost]:
    """The output of a program, and its cost."""
    with stdin.open("rb") as source:
        launcher = [sys.executable, "-c", _LAUNCHER, *command]
        done = subprocess.run(launcher, stdin=source, capture_output=True, text=True, check=True)
    seconds, kibibytes = done.stderr.split()
    return done.stdout, Cost(float(seconds), int(kibibytes) * _KIBIBYTE)


def kenlm_log_probs(
    texts: Sequence[str], predictor: Predictor, programs: Path, binary: Path
) -> tuple[list[float], Cost]:
    """The natural log-probabilities of texts with their ends."""
    words = kenlm_words(predictor.vocabulary)
    spelled = [spelled_ids(text, predictor.vocabulary) for text in texts]
    file = binary.with_suffix(".txt")
    file.write_text("".join(" ".join(words[index] for index in ids) + "\n" for ids, _ in spelled))
    printed, cost = run_measured([str(programs / "query"), "-v", "sentence", str(binary)], file)
    totals = [float(line.split()[1]) for line in printed.splitlines() if line.startswith("Total:")]
    return [
        total * float(np.log(10)) + sum(spelling) for total, (_, spelling) in zip(totals, spelled, strict=True)
    ], cost


def features_of(
    part: Part, predictor: Predictor, programs: Path, work: Path
) -> tuple[dict[str, list[NDArray[np.float64]]], dict[str, Cost]]:
    """For each model, and for the words, the numbers of each list; and the costs of KenLM."""
    texts = [text for own in part.texts for text in own]
    found = {"lmtool": Rescorer(predictor).log_probs(texts), "words": [float(len(text.split())) for text in texts]}
    found["nothing"], costs = [0.0] * len(texts), {}
    for order in ORDERS:
        name = f"KenLM {order}-gram"
        found[name], costs[name] = kenlm_log_probs(texts, predictor, programs, work / f"{order}-gram.binary")
    ends = np.cumsum([len(own) for own in part.texts])[:-1]
    return {name: np.split(np.array(numbers), ends) for name, numbers in found.items()}, costs


def judged(part: Part, features: dict[str, list[NDArray[np.float64]]], names: Sequence[str]) -> list[JudgedList]:
    """The lists with these features."""
    columns = [np.stack(own, axis=1) for own in zip(*(features[name] for name in names), strict=True)]
    return [JudgedList(*each) for each in zip(part.scores, columns, part.errors, strict=True)]


def interval(errors: NDArray[np.int64], words: NDArray[np.int64]) -> str:
    """The middle 95% of the error rates of bootstrap samples."""
    draws = np.random.default_rng(0).integers(0, len(words), (SAMPLES, len(words)))
    low, high = np.percentile(errors[draws].sum(1) / words[draws].sum(1), (2.5, 97.5))
    return f"{low:.2%} to {high:.2%}"


def error_table(chosen: argparse.Namespace, predictor: Predictor) -> list[str]:
    """Word errors of the test's lists by each way to choose."""
    dev, test = read_part(*chosen.dev), read_part(*chosen.test)
    dev_features, _ = features_of(dev, predictor, chosen.kenlm, chosen.work)
    test_features, costs = features_of(test, predictor, chosen.kenlm, chosen.work)
    first = np.array([each[0] for each in test.errors])
    errors = {"recogniser, its result": (test.result_errors, ""), "recogniser, first of the list": (first, "")}
    for name, names in WAYS.items():
        weights = tune(judged(dev, dev_features, names))
        lists = judged(test, test_features, names)
        best = [each.errors[np.argmax(each.scores + each.features @ weights)] for each in lists]
        errors[name] = np.array(best), ", ".join(f"{weight:.3g}" for weight in weights)
    errors["fewest errors in the list"] = np.array([each.min() for each in test.errors]), ""
    rows = [("", "errors", "word error rate", "95% interval", "fewer than the first", "than the 5-gram", "weights")]
    for name, (own, weights) in errors.items():
        rate = f"{own.sum() / test.words.sum():.2%}"
        fewer = [_fewer(other, own, test.words) for other in (first, errors["KenLM 5-gram"][0])]
        rows.append((name, f"{own.sum():,}", rate, interval(own, test.words), *fewer, weights))
    counts = [f"{len(part.texts)} lists, {sum(map(len, part.texts)):,} hypotheses" for part in (dev, test)]
    what = f"dev {counts[0]}; test {counts[1]}, {test.words.sum():,} words"
    return [what, *text_table(rows, "<>"), *cost_table(chosen, costs)]


def _fewer(other: NDArray[np.int64], own: NDArray[np.int64], words: NDArray[np.int64]) -> str:
    """How much smaller the second error rate is, with the interval of the difference."""
    rate = (other - own).sum() / words.sum()
    return f"{rate:.2%} ({interval(other - own, words)})" if (other != own).any() else ""


def cost_table(chosen: argparse.Namespace, costs: dict[str, Cost]) -> list[str]:
    """Processor time and memory of the programs, for the test's lists."""
    command = [sys.executable, "-m", "lmtool.cli", "rescore", "--model", str(chosen.model)]
    _, costs["lmtool rescore"] = run_measured(command, chosen.test[0])
    empty = chosen.work / "empty"
    empty.touch()
    _, costs["lmtool rescore, of nothing"] = run_measured(command, empty)
    rows = [("", "seconds", "peak MB")]
    rows += [(name, f"{cost.seconds:.2f}", f"{cost.peak_bytes / 1e6:.0f}") for name, cost in costs.items()]
    return ["", *text_table(rows, "<>")]


def speed_table(model: Path, lists: list[list[str]], rounds: int) -> list[str]:
    """Rates of scoring each hypothesis alone, and together."""
    predictor = Predictor.load(model)
    some = [text for own in lists[::_ALONE_SHARE] for text in own]
    texts = [text for own in lists for text in own]
    rescorer = Rescorer(predictor)
    ways: dict[str, tuple[int, Callable[[], Any]]] = {
        "Predictor.score": (len(some), lambda: [predictor.score(f"{text}\n") for text in some]),
        "Predictor.scores": (len(some), lambda: list(predictor.scores(f"{text}\n" for text in some))),
        "Rescorer, list by list": (len(texts), lambda: list(map(rescorer.log_probs, lists))),
        "Rescorer, lists together": (len(texts), lambda: rescorer.log_probs(texts)),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (count, score) in ways.items():
            start = process_time()
            score()
            rates[name].append(count / (process_time() - start))
    rows = [("", "hypotheses/s", "times alone", "lowest", "highest")]
    for name, own in rates.items():
        ratios = [rate / alone for rate, alone in zip(own, rates["Predictor.score"], strict=True)]
        shown = (f"{ratio:.1f}" for ratio in (statistics.median(ratios), min(ratios), max(ratios)))
        rows.append((name, f"{statistics.median(own):,.0f}", *shown))
    return ["", f"{model}, {rounds} rounds", *text_table(rows, "<>")]


def build_missing(chosen: argparse.Namespace) -> None:
    """Build the n-grams that are not there."""
    from lmtool.model import Run  # loads torch

    chosen.work.mkdir(parents=True, exist_ok=True)
    for order in ORDERS:
        if not (chosen.work / f"{order}-gram.binary").exists():
            build_kenlm(Run(chosen.run), chosen.kenlm, chosen.work, f"{order}-gram", order)


def main() -> None:
    """Parse the arguments, build what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="run whose corpus the n-grams are built of")
    parser.add_argument("--model", type=Path, required=True, help="its artifact")
    parser.add_argument("--kenlm", type=Path, required=True, help="folder of lmplz, build_binary and query")
    parser.add_argument("--work", type=Path, required=True, help="folder for the n-grams")
    for name in ("--dev", "--test"):
        parser.add_argument(name, type=Path, nargs=2, required=True, metavar=("LISTS", "REFERENCES"))
    parser.add_argument("--rate", type=Path, action="append", default=[], help="artifact whose rates are measured")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the rates")
    chosen = parser.parse_args()
    build_missing(chosen)
    predictor = Predictor.load(chosen.model)
    environment = describe_environment()
    print(f"{environment['processor']}, {environment['usable_cores']} cores")
    print("\n".join(error_table(chosen, predictor)))
    lists = read_part(*chosen.test).texts[:_RATED_LISTS]
    for model in (chosen.model, *chosen.rate):
        print("\n".join(speed_table(model, lists, chosen.rounds)))


if __name__ == "__main__":
    run_program(main)

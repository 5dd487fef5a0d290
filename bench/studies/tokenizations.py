"""Compare the tokenization rules on one text: what a byte of it costs, at what size and speed.

    python bench/studies/tokenizations.py --data DATA --work FOLDER [--epochs N] [--rounds N]

For each rule the preset `quick` is trained on DATA into WORK (a run that is there is not trained again), exported as
int8, and measured on the test text. Bits per byte and perplexities of a word compare between rules; `words` pays for
the spelling of unknown words, and is given letter case and white space.

Speeds are bytes of text a second of processor time, one thread, the models in turns: medians of the rounds with their
range. The test text is scored by `Predictor.scores`, and text is written one token at a time at temperature 0.8.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple, TypeVar

from common.program import run_program
from lmtool.model.data.texts import find_texts
from lmtool.runtime import Predictor
from lmtool.runtime.io.text_table import text_table

WRITTEN_TOKENS = 500

_Given = TypeVar("_Given")


class Rule(NamedTuple):
    """A tokenization rule, and the size of its vocabulary where that is chosen."""

    name: str
    vocabulary_size: int | None = None

    @property
    def settings(self) -> list[str]:
        """Options of `lmtool train`."""
        size = [] if self.vocabulary_size is None else ["--set", f"vocabulary_size={self.vocabulary_size}"]
        return ["--set", f"tokenization={self.name}", *size]

    def __str__(self) -> str:
        return self.name if self.vocabulary_size is None else f"{self.name} {self.vocabulary_size:,}"


def rules(word_rule: str) -> list[Rule]:
    """The rules that are compared; `word_rule` is the one whose tokens are words."""
    return [Rule(word_rule), *(Rule("bpe", size) for size in (2000, 4000, 8000)), Rule("characters")]


def trained(rule: Rule, data: str, work: Path, epochs: int | None) -> Path:
    """The int8 artifact of a rule; trained and exported if it is not there."""
    run = work / str(rule).replace(" ", "-").replace(",", "")
    artifact = run / "model.int8.onnx"
    if not artifact.exists():
        begin = ["--preset", "quick", "--seed", "1", "--data", data, *rule.settings]
        length = [] if epochs is None else ["--epochs", str(epochs)]
        _command("train", "--run", str(run), *(["--resume"] if run.exists() else begin), *length)
        _command("export", "--run", str(run), "--precision", "int8")
    return artifact


def _command(*arguments: str) -> Any:
    command = [sys.executable, "-m", "lmtool.cli", *arguments, "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def speeds(artifacts: Mapping[Rule, Path], text: str, rounds: int) -> dict[Rule, dict[str, list[float]]]:
    """Bytes a second that each model scores and writes, round by round."""
    predictors = {rule: Predictor.load(path) for rule, path in artifacts.items()}
    lines = text.splitlines()
    rates: dict[Rule, dict[str, list[float]]] = {rule: {"scored": [], "written": []} for rule in artifacts}
    for number in range(rounds):
        part = list(islice(lines, number, None, rounds))
        for rule, predictor in predictors.items():
            rates[rule]["scored"].append(_rate(_score, predictor, part))
            rates[rule]["written"].append(_rate(_write, predictor, number))
    return rates


def _score(predictor: Predictor, lines: Sequence[str]) -> str:
    for _ in predictor.scores(lines):
        pass
    return "\n".join(lines)


def _write(predictor: Predictor, seed: int) -> str:
    return "".join(predictor.stream().generate(max_tokens=WRITTEN_TOKENS, temperature=0.8, seed=seed))


def _rate(work: Callable[[Predictor, _Given], str], predictor: Predictor, given: _Given) -> float:
    """Bytes a second of the text that `work` returns."""
    start = process_time()
    text = work(predictor, given)
    return len(text.encode()) / (process_time() - start)


def format_report(artifacts: Mapping[Rule, Path], rates: Mapping[Rule, Mapping[str, Sequence[float]]]) -> list[str]:
    """A table: a row for each rule."""
    columns = ("perplexity", "bits per byte", "a word", "parameters", "int8, MB", "scored, kB/s", "written, kB/s")
    rows = [("tokens", "unknown", *columns)]
    for rule, path in artifacts.items():
        figures = _command("evaluate", "--model", str(path))
        parameters = _command("info", "--model", str(path))["parameters"]["total"]
        shown = (_range(rates[rule][name]) for name in ("scored", "written"))
        rows.append(
            (
                str(rule),
                f"{figures['unknown'] / figures['tokens']:.1%}",
                f"{figures['perplexity']:.1f}",
                f"{figures['bits_per_byte']:.3f}",
                f"{figures['word_perplexity']:,.0f}",
                f"{parameters:,}",
                f"{path.stat().st_size / 1e6:.2f}",
                *shown,
            )
        )
    return text_table(rows, "<>")


def _range(rates: Sequence[float]) -> str:
    middle, least, most = (rate / 1000 for rate in (statistics.median(rates), min(rates), max(rates)))
    return f"{middle:.1f} ({least:.1f} to {most:.1f})"


def main() -> None:
    """Parse the arguments, train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="corpus, as of lmtool train")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--words", default="words", help="rule whose tokens are words (default: words)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: those of quick)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the speeds")
    options = parser.parse_args()
    artifacts = {rule: trained(rule, options.data, options.work, options.epochs) for rule in rules(options.words)}
    text = "".join(find_texts(options.data).of_split("test"))
    print("\n".join(format_report(artifacts, speeds(artifacts, text, options.rounds))))


if __name__ == "__main__":
    run_program(main)

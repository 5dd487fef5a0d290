"""The command `rescore`."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, final

from typer import Argument, BadParameter, Option

from ..options import ExportedRun, Model, Threads, load_predictor
from ..output import print_status, print_text, require_module
from ..paths import path_option
from .nbest_files import JsonLists, KaldiLists, NbestList, read_lists

if TYPE_CHECKING:
    from io import BufferedIOBase

    from ...runtime import Hypothesis, Predictor
    from .references import Tuned


def rescore(
    nbest: Annotated[Path | None, Argument(metavar="NBEST", help="File of lists (default: standard input).")] = None,
    model: Model = None,
    run: ExportedRun = None,
    weight: Annotated[float | None, Option(help="Weight of the model's log-probability (default 1).")] = None,
    word_bonus: Annotated[float | None, Option(help="Added for each word (default 0).")] = None,
    tune: Annotated[
        Path | None,
        path_option("Find both on these lists: their references, JSON lines or `id words`.", metavar="REFERENCES"),
    ] = None,
    scores: Annotated[
        Path | None,
        path_option("The lists are Kaldi's, `id-n words`; this file has their scores, `id-n number`.", metavar="FILE"),
    ] = None,
    costs: Annotated[bool, Option("--costs", help="Scores are costs: smaller is better.")] = False,
    all_: Annotated[bool, Option("--all", help="Write all hypotheses, best first.")] = False,
    threads: Threads = 1,
) -> None:
    """Choose the best hypothesis of a recogniser's n-best lists: score + weight * log-probability + bonus * words.

    Lists are JSON lines, {"id": ..., "hypotheses": [{"text": ..., "score": ...}, ...]}, or Kaldi's (--scores). Results
    are JSON lines, {"id": ..., "text": ..., "score": ...}, in the order of the input, as the lists come.
    """
    if tune is not None:
        _require_no_weights(weight, word_bonus)
        require_module("jiwer")
    weights = {"weight": 1.0 if weight is None else weight, "word_bonus": word_bonus or 0.0}
    predictor = load_predictor(model, run, threads)
    printer = _Printer(all_)
    with _groups(nbest, scores, -1 if costs else 1) as groups:
        if tune is None:
            _rescore(predictor, groups, weights, printer)
        else:
            _rescore_tuned(predictor, groups, tune, printer)
    printer.finish()


def _require_no_weights(weight: float | None, word_bonus: float | None) -> None:
    if weight is not None or word_bonus is not None:
        raise BadParameter("finds both, expected neither --weight nor --word-bonus", param_hint="--tune")


def _rescore(
    predictor: "Predictor", groups: Iterator[list[NbestList]], weights: dict[str, float], printer: "_Printer"
) -> None:
    from ...runtime import Rescorer

    rescorer = Rescorer(predictor, **weights)
    for lists in groups:
        for nbest, best in zip(lists, rescorer.rescore_all([each.hypotheses for each in lists]), strict=True):
            printer.print(nbest.id, best)


def _rescore_tuned(predictor: "Predictor", groups: Iterator[list[NbestList]], tune: Path, printer: "_Printer") -> None:
    from ...runtime import Rescorer
    from .references import read_references, require_references, tune_weights

    references = read_references(tune)
    lists = [nbest for group in groups for nbest in group]
    require_references(lists, references, str(tune))
    found = iter(Rescorer(predictor).log_probs([each.text for nbest in lists for each in nbest.hypotheses]))
    log_probs = [[next(found) for _ in nbest.hypotheses] for nbest in lists]
    tuned = tune_weights(lists, log_probs, references)
    print_status(_tuned_text(tuned))
    rescorer = Rescorer(predictor, weight=tuned.weight, word_bonus=tuned.word_bonus)
    for nbest, own in zip(lists, log_probs, strict=True):
        printer.print(nbest.id, rescorer.ordered(nbest.hypotheses, own))


def _tuned_text(tuned: "Tuned") -> str:
    rates = ", ".join(
        f"{name} {errors:,} ({errors / tuned.words:.2%})"
        for name, errors in (("alone", tuned.alone), ("rescored", tuned.rescored), ("best possible", tuned.least))
    )
    return (
        f"errors in {tuned.words:,} words: {rates}\n"
        f"for other lists: --weight {tuned.weight:g} --word-bonus {tuned.word_bonus:g}"
    )


@final
class _Printer:
    """Prints the results; counts the lists without any."""

    def __init__(self, prints_all: bool) -> None:
        self._prints_all = prints_all
        self._lists = self._empty = 0

    def print(self, name: str, ordered: list["Hypothesis"]) -> None:
        """Print a result, and flush."""
        from ...runtime.io.files import json_text

        self._lists += 1
        self._empty += not ordered
        value: dict[str, Any] = {"id": name}
        if self._prints_all:
            value["hypotheses"] = [{"text": each.text, "score": each.score} for each in ordered]
        else:
            best = ordered[0] if ordered else None
            value |= {"text": best.text if best else "", "score": best.score if best else None}
        print_text(f"{json_text(value)}\n")

    def finish(self) -> None:
        """Say how many lists were empty."""
        if self._empty:
            print_status(f"warning: {self._empty:,} of {self._lists:,} lists have no hypotheses")


@contextlib.contextmanager
def _groups(nbest: Path | None, scores: Path | None, sign: int) -> Iterator[Iterator[list[NbestList]]]:
    """The lists of a file or of standard input."""
    from ...runtime.io.files import opened

    with contextlib.ExitStack() as stack:
        if nbest is not None:
            file: Any = stack.enter_context(opened(nbest, pipes=True))
        elif sys.stdin is None or sys.stdin.isatty():
            raise BadParameter("it is missing, expected a file, or lists on standard input", param_hint="NBEST")
        else:
            file = cast("BufferedIOBase", sys.stdin.buffer)
        reader: JsonLists | KaldiLists = JsonLists(sign)
        if scores is not None:
            beside: Any = stack.enter_context(opened(scores, pipes=True))
            reader = KaldiLists(beside, str(scores), sign)
        yield read_lists(file, "standard input" if nbest is None else str(nbest), reader)

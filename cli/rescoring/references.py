"""References of a development set: what was said, the errors of hypotheses, and the weights that make few of them."""

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, final

from .nbest_files import NbestList, json_object, json_string

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...runtime.rescoring.tuning import JudgedList

_JSON_FORM = '{"id": "...", "text": "..."}'
_DIGITS = 6


@final
class Tuned(NamedTuple):
    """Weights, and errors of the best hypotheses.

    Attributes:
        weight: Of the log-probability.
        word_bonus: For each word.
        words: Words of the references.
        alone: Errors by the recogniser's scores alone.
        rescored: Errors with the weights.
        least: Errors if always the hypothesis with the fewest errors was chosen.
    """

    weight: float
    word_bonus: float
    words: int
    alone: int
    rescored: int
    least: int


def read_references(path: Path) -> dict[str, str]:
    """References by id: JSON lines with an id and a text, or Kaldi's `id words`.

    Raises:
        StorageError: The file cannot be read, a line is invalid, or an id comes twice.
    """
    from ...runtime.errors import StorageError
    from ...runtime.io.text_files import read_text

    references: dict[str, str] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"line {number:,} of {path}"
        name, text = _json_reference(line, where) if line.lstrip().startswith("{") else _kaldi_reference(line)
        if name in references:
            raise StorageError(f"{where} has a second reference of {reprlib.repr(name)}, expected one of each id")
        references[name] = text
    return references


def _json_reference(line: str, where: str) -> tuple[str, str]:
    value = json_object(line, where, _JSON_FORM)
    return json_string(value, "id", where), json_string(value, "text", where)


def _kaldi_reference(line: str) -> tuple[str, str]:
    name, *text = line.split(maxsplit=1)
    return name, text[0] if text else ""


def require_references(lists: Sequence[NbestList], references: Mapping[str, str], name: str) -> None:
    """Check that errors can be counted; `name` is that of the references.

    Raises:
        StorageError: There are no lists, a list has no reference, or the references have no words.
    """
    from ...runtime.errors import StorageError

    for nbest in lists:
        if nbest.id not in references:
            raise StorageError(f"{name} has no reference of {reprlib.repr(nbest.id)}, expected one of each list")
    if not lists:
        raise StorageError(f"there are no lists, expected some with references in {name}")
    if not any(references[nbest.id].split() for nbest in lists):
        raise StorageError(f"the references of these lists in {name} have no words, expected some to count errors in")


def tune_weights(
    lists: Sequence[NbestList], log_probs: Sequence[Sequence[float]], references: Mapping[str, str]
) -> Tuned:
    """The weights with the fewest errors.

    Args:
        lists: Lists that passed `require_references`; some may be empty.
        log_probs: The log-probabilities of their hypotheses.
        references: What was said, by id.
    """
    import numpy as np

    from ...runtime.rescoring.tuning import errors_with, tune

    words = sum(len(references[nbest.id].split()) for nbest in lists)
    lost = sum(len(references[nbest.id].split()) for nbest in lists if not nbest.hypotheses)
    judged = [
        _judged(nbest, own, references[nbest.id])
        for nbest, own in zip(lists, log_probs, strict=True)
        if nbest.hypotheses
    ]
    weights = np.array([float(f"{weight:.{_DIGITS}g}") for weight in tune(judged)]) if judged else np.zeros(2)
    alone, rescored = (lost + errors_with(judged, each) for each in (np.zeros(2), weights))
    least = lost + sum(int(each.errors.min()) for each in judged)
    return Tuned(float(weights[0]), float(weights[1]), words, alone, rescored, least)


def _judged(nbest: NbestList, log_probs: Sequence[float], reference: str) -> "JudgedList":
    import numpy as np

    from ...runtime.rescoring.tuning import JudgedList

    scores = np.array([hypothesis.score for hypothesis in nbest.hypotheses], np.float64)
    features = np.array([log_probs, [hypothesis.words for hypothesis in nbest.hypotheses]], np.float64).T
    return JudgedList(scores, features, word_errors(reference, [hypothesis.text for hypothesis in nbest.hypotheses]))


def word_errors(reference: str, texts: Sequence[str]) -> "NDArray[np.int64]":
    """Wrong, missing and additional words of each text, int64 [texts], in the shortest alignment."""
    import jiwer
    import numpy as np

    spaced = " ".join(reference.split())
    output = jiwer.process_words([spaced] * len(texts), [" ".join(text.split()) for text in texts])
    counts = [
        sum(
            max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            for chunk in alignment
            if chunk.type != "equal"
        )
        for alignment in output.alignments
    ]
    return np.array(counts, np.int64)

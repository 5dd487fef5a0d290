"""N-best lists in files: JSON lines, or Kaldi's `id-n words` with a file of scores."""

import reprlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, final

if TYPE_CHECKING:
    from io import BufferedIOBase

    from ...runtime import Hypothesis

_JSON_FORM = '{"id": "...", "hypotheses": [{"text": "...", "score": -1.5}, ...]}'


@final
class NbestList(NamedTuple):
    """The hypotheses of one utterance."""

    id: str
    hypotheses: list["Hypothesis"]


class ListReader(Protocol):
    """Makes lists of lines."""

    def add(self, line: str, where: str) -> NbestList | None:
        """Read a line, which `where` names in errors; the list that it completes."""

    def finish(self) -> NbestList | None:
        """The list that the last line completes."""


def read_lists(file: "BufferedIOBase", name: str, reader: ListReader) -> Iterator[list[NbestList]]:
    """The lists of a file, as they come: those of one read together. Empty lines are skipped.

    Args:
        file: A binary file or pipe.
        name: Stands for it in messages.
        reader: Knows the format.

    Raises:
        StorageError: A line is invalid, or an id comes twice; the lists before it have been yielded.
    """
    from ...runtime.errors import LmtoolError
    from ...runtime.io.lines import read_lines

    seen: set[int] = set()  # hashes, as there may be many ids
    number = 0
    for block in read_lines(file, name):
        found: list[NbestList] = []
        try:
            for line in block:
                number += 1
                where = f"line {number:,} of {name}"
                if line.strip() and (nbest := reader.add(line, where)):
                    found.append(_new(nbest, seen, where))
        except LmtoolError:
            yield found
            raise
        yield found
    if last := reader.finish():
        yield [_new(last, seen, f"the end of {name}")]


def _new(nbest: NbestList, seen: set[int], where: str) -> NbestList:
    if hash(nbest.id) in seen:
        found = f"completes a second list of {reprlib.repr(nbest.id)}"
        raise _invalid(where, found, "one list of each id, with its lines together")
    seen.add(hash(nbest.id))
    return nbest


@final
class JsonLists:
    """Reads one object a line; it may hold other keys."""

    def __init__(self, sign: int) -> None:
        """`sign` is -1 if the scores are costs, else 1."""
        self._sign = sign

    def add(self, line: str, where: str) -> NbestList | None:
        """The list of a line."""
        value = json_object(line, where, f"{_JSON_FORM}, or --scores with Kaldi's lists")
        name = json_string(value, "id", where)
        entries = value.get("hypotheses")
        if not isinstance(entries, list):
            raise _invalid(where, _found(value, "hypotheses"), f"a list: {_JSON_FORM}")
        return NbestList(name, [self._hypothesis(entry, where, n) for n, entry in enumerate(entries, 1)])

    def _hypothesis(self, entry: Any, where: str, number: int) -> "Hypothesis":
        from ...runtime import Hypothesis

        where = f"hypothesis {number:,} in {where}"
        if not isinstance(entry, dict):
            raise _invalid(where, f"is {reprlib.repr(entry)}", '{"text": "...", "score": -1.5}')
        text, score = json_string(entry, "text", where), entry.get("score")
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise _invalid(where, _found(entry, "score"), "a number")
        return Hypothesis(text, self._sign * score)

    def finish(self) -> NbestList | None:
        """No list: a line is a whole one."""
        return None


@final
class KaldiLists:
    """Reads `id-n words` lines, and the lines `id-n number` of a second file beside them."""

    def __init__(self, scores: "BufferedIOBase", name: str, sign: int) -> None:
        """The second file, its name, and -1 if it holds costs, else 1."""
        self._scores = _lines_of(scores, name)
        self._name = name
        self._sign = sign
        self._id = ""
        self._hypotheses: dict[str, Hypothesis] = {}

    def add(self, line: str, where: str) -> NbestList | None:
        """Read a hypothesis; the list before it if it begins another one."""
        from ...runtime import Hypothesis

        key, text = _split(line)
        name, dash, number = key.rpartition("-")
        if not (name and dash and number.isdecimal()):
            raise _invalid(where, f"begins with {reprlib.repr(key)}", "an utterance's id, - and a number: utterance-1")
        score = self._score(key, where)
        done = self._start(name) if name != self._id else None
        if key in self._hypotheses:
            raise _invalid(where, f"has {reprlib.repr(key)} a second time", "one line for each hypothesis")
        self._hypotheses[key] = Hypothesis(text, self._sign * score)
        return done

    def _start(self, name: str) -> NbestList | None:
        done = NbestList(self._id, list(self._hypotheses.values())) if self._hypotheses else None
        self._id, self._hypotheses = name, {}
        return done

    def _score(self, key: str, where: str) -> float:
        import math

        expected = f"a score of {reprlib.repr(key)}, as in {where}"
        score_line = next(self._scores, None)
        if score_line is None:
            raise _invalid(self._name, "ends", expected)
        score_where, line = score_line
        found, number = _split(line)
        if found != key:
            raise _invalid(score_where, f"has {reprlib.repr(found)}", expected)
        try:
            score = float(number)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise _invalid(score_where, f"has the score {reprlib.repr(number)}", "a finite number")
        return score

    def finish(self) -> NbestList | None:
        """The last list.

        Raises:
            StorageError: There are more scores.
        """
        if more := next(self._scores, None):
            raise _invalid(
                more[0], f"has {reprlib.repr(_split(more[1])[0])}", "its end, as there are no more hypotheses"
            )
        return self._start("")


def _lines_of(file: "BufferedIOBase", name: str) -> Iterator[tuple[str, str]]:
    """What names each line in errors, and the line; empty ones are skipped."""
    from ...runtime.io.lines import read_lines

    number = 0
    for block in read_lines(file, name):
        for line in block:
            number += 1
            if line.strip():
                yield f"line {number:,} of {name}", line


def _split(line: str) -> tuple[str, str]:
    """The first word, and the others."""
    key, *text = line.split(maxsplit=1)
    return key, text[0].rstrip() if text else ""


def json_object(line: str, where: str, form: str) -> dict[str, Any]:
    """The object of a line; StorageError for anything else."""
    from ...runtime.errors import JsonError, StorageError
    from ...runtime.io.json_reader import parse_json
    from ...runtime.io.lines import MOST_LINE_BYTES

    try:
        value = parse_json(line, MOST_LINE_BYTES)
    except JsonError as error:
        raise StorageError(f"{where} {error}; expected {form}") from error
    if not isinstance(value, dict):
        raise _invalid(where, f"is {reprlib.repr(value)}", form)
    return value


def json_string(value: dict[str, Any], key: str, where: str) -> str:
    """The string under a key; StorageError if there is none."""
    found = value.get(key)
    if not isinstance(found, str):
        raise _invalid(where, _found(value, key), "a string")
    return found


def _found(value: dict[str, Any], key: str) -> str:
    return f'has "{key}": {reprlib.repr(value[key])}' if key in value else f'has no "{key}"'


def _invalid(where: str, found: str, expected: str) -> Exception:
    from ...runtime.errors import StorageError

    return StorageError(f"{where} {found}, expected {expected}")

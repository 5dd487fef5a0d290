"""The program of examples/cpp: built by its Makefile, run, and its output read; skips where it cannot be built."""

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import pytest
from lmtool.runtime import Predictor

EXAMPLE = Path(__file__).parents[2] / "examples" / "cpp"
HEADER = "onnxruntime_c_api.h"
PATIENCE_SECONDS = 120
_ESCAPE = re.compile(r"\\(x..|.)")
_NAMED = {"n": "\n", "t": "\t", "\\": "\\"}

Finished = subprocess.CompletedProcess[bytes]


def header_folder() -> Path:
    """The folder of onnxruntime's header; the test is skipped where there is none, or no compiler or library."""
    for tool in ("g++", "make"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if not list(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")):
        pytest.skip("this onnxruntime wheel has no libonnxruntime.so")
    named = os.environ.get("ONNXRUNTIME_INCLUDE")
    roots = [Path("/usr/local/include"), Path("/usr/include")]
    folders = [Path(named)] if named else [folder for root in roots for folder in root.glob("onnxruntime*")]
    found = [folder for folder in folders if (folder / HEADER).is_file()]
    if not found:
        pytest.skip(f"{HEADER} is not in {named or 'the system'}; ONNXRUNTIME_INCLUDE names its folder")
    return found[0].resolve()


@functools.cache
def build(folder: Path, include: Path, flags: str = "-O2") -> Path:
    """The program, built once in `folder`, which is made for it."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("build"))
    command = ["make", f"PYTHON={sys.executable}", f"ONNXRUNTIME_INCLUDE={include}", f"CXXFLAGS={flags}"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert made.returncode == 0, made.stderr
    return folder / "build" / "suggest"


def execute(program: Path, *arguments: object, stdin: str | bytes = "") -> Finished:
    """The program's end, whatever it is."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, timeout=PATIENCE_SECONDS, check=False)


@dataclass(frozen=True)
class Answer:
    """What is said about one line."""

    log_prob: float
    perplexity: float
    tokens: int
    unknown: int
    line: str
    words: list[tuple[str, float]]


def answers(program: Path, *arguments: object, stdin: str | bytes) -> list[Answer]:
    """The answers of a run that ends well."""
    finished = execute(program, *arguments, stdin=stdin)
    assert (finished.returncode, finished.stderr) == (0, b"")
    return read_answers(finished.stdout.decode())


def read_answers(output: str) -> list[Answer]:
    found: list[Answer] = []
    for row in output.removesuffix("\n").split("\n") if output else []:
        first, *fields = row.split("\t")
        if first:
            perplexity, tokens, unknown, line = fields
            found.append(Answer(float(first), float(perplexity), int(tokens), int(unknown), _plain(line), []))
        else:
            found[-1].words.append((_plain(fields[1]), float(fields[0])))
    return found


def _plain(field: str) -> str:
    return _ESCAPE.sub(lambda found: _NAMED.get(found[1]) or chr(int(found[1][1:], 16)), field)


def expected(predictor: Predictor, lines: Sequence[str], count: int = 5, separate: bool = False) -> list[Answer]:
    """What the Python predictor says about the same lines."""
    found = []
    stream = predictor.stream()
    for number, line in enumerate(lines):
        if separate:
            stream = predictor.stream()
        elif number:
            stream.feed("\n")
        score = stream.score(line)
        words = stream.suggest(count) if count else []
        found.append(Answer(score.log_prob, score.perplexity, len(score.tokens), score.unknown, line, words))
    return found


def assert_same(found: Sequence[Answer], wanted: Sequence[Answer]) -> None:
    """The same tokens and words in the same order; probabilities to 1e-5, log-probabilities to 1e-4."""
    assert [(answer.line, answer.tokens, answer.unknown) for answer in found] == [
        (answer.line, answer.tokens, answer.unknown) for answer in wanted
    ]
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.log_prob == pytest.approx(theirs.log_prob, abs=1e-4), ours.line
        assert ours.perplexity == pytest.approx(theirs.perplexity, rel=1e-4), ours.line
        assert [word for word, _ in ours.words] == [word for word, _ in theirs.words], ours.line
        probabilities = [probability for _, probability in theirs.words]
        assert [probability for _, probability in ours.words] == pytest.approx(probabilities, abs=1e-5), ours.line

"""Builds the program of examples/cpp with its Makefile, runs it and reads its output; skips if it cannot be built."""

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


def _require_compiler() -> None:
    for tool in ("g++", "make"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def header_folder() -> Path:
    """The folder of onnxruntime's header; skips the test if it, a compiler or the library is missing."""
    _require_compiler()
    if not list(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")):
        pytest.skip("this onnxruntime wheel has no libonnxruntime.so")
    named = os.environ.get("ONNXRUNTIME_INCLUDE")
    roots = [Path("/usr/local/include"), Path("/usr/include")]
    folders = [Path(named)] if named else [folder for root in roots for folder in root.glob("onnxruntime*")]
    folders = [folder for folder in folders if (folder / HEADER).is_file()]
    if not folders:
        pytest.skip(f"{HEADER} is not in {named or 'the system'}; ONNXRUNTIME_INCLUDE names its folder")
    return folders[0].resolve()


@functools.cache
def build(folder: Path, include: Path, flags: str = "-O2") -> Path:
    """The program, built once in the new folder `folder`."""
    return _make(folder, "suggest", f"ONNXRUNTIME_INCLUDE={include}", f"CXXFLAGS={flags}")


def build_check(folder: Path) -> Path:
    """The program that compares tokens, which needs no onnxruntime, built in the new folder `folder`."""
    _require_compiler()
    return _make(folder, "check_texts")


def _make(folder: Path, program: str, *settings: str) -> Path:
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("build"))
    command = ["make", f"build/{program}", f"PYTHON={sys.executable}", *settings]
    make = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert make.returncode == 0, make.stderr
    return folder / "build" / program


def execute(program: Path, *arguments: object, stdin: str | bytes = "") -> Finished:
    """Run the program, with any exit code."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, timeout=PATIENCE_SECONDS, check=False)


@dataclass(frozen=True)
class Answer:
    """The output for one line."""

    log_prob: float
    perplexity: float
    tokens: int
    unknown: int
    line: str
    words: list[tuple[str, float]]


def answers(program: Path, *arguments: object, stdin: str | bytes) -> list[Answer]:
    """The answers of a successful run."""
    finished = execute(program, *arguments, stdin=stdin)
    assert (finished.returncode, finished.stderr) == (0, b"")
    return read_answers(finished.stdout.decode())


def read_answers(output: str) -> list[Answer]:
    rows: list[Answer] = []
    for line in output.removesuffix("\n").split("\n") if output else []:
        first, *fields = line.split("\t")
        if first:
            perplexity, tokens, unknown, text = fields
            rows.append(Answer(float(first), float(perplexity), int(tokens), int(unknown), _plain(text), []))
        else:
            rows[-1].words.append((_plain(fields[1]), float(fields[0])))
    return rows


def _plain(field: str) -> str:
    return _ESCAPE.sub(lambda match: _NAMED.get(match[1]) or chr(int(match[1][1:], 16)), field)


def expected(predictor: Predictor, lines: Sequence[str], count: int = 5, separate: bool = False) -> list[Answer]:
    """The Python predictor's answers for the same lines."""
    results = []
    stream = predictor.stream()
    for number, line in enumerate(lines):
        if separate:
            stream = predictor.stream()
        elif number:
            stream.feed("\n")
        score = stream.score(line)
        words = stream.suggest(count) if count else []
        results.append(Answer(score.log_prob, score.perplexity, len(score.tokens), score.unknown, line, words))
    return results


def assert_same(actual: Sequence[Answer], wanted: Sequence[Answer]) -> None:
    """Check for the same tokens and words in order, probabilities within 1e-5 and log-probabilities within 1e-4."""
    assert [(answer.line, answer.tokens, answer.unknown) for answer in actual] == [
        (answer.line, answer.tokens, answer.unknown) for answer in wanted
    ]
    for ours, theirs in zip(actual, wanted, strict=True):
        assert ours.log_prob == pytest.approx(theirs.log_prob, abs=1e-4), ours.line
        assert ours.perplexity == pytest.approx(theirs.perplexity, rel=1e-4), ours.line
        assert [word for word, _ in ours.words] == [word for word, _ in theirs.words], ours.line
        probabilities = [probability for _, probability in theirs.words]
        assert [probability for _, probability in ours.words] == pytest.approx(probabilities, abs=1e-5), ours.line

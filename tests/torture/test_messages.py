"""Users see messages: every option of every command with invalid values and files.

The cases are in tests/support/fuzzing/bad_values.py.
"""

import itertools
import json
import random
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lmtool.model import Run
from lmtool.model.training.config import setting_types
from support.faults import injection
from support.fuzzing.bad_values import (
    BASE,
    JSON_LINES,
    LONG_WORK,
    NOT_TRIED,
    READS_STDIN,
    TAKEN,
    WRONG_USAGE,
    Case,
    cases,
    commands,
    options,
)
from support.processes.commands import Finished, count_by_exit_code, lmtool
from support.scale import Many, Tally

PROMISE = "Users see messages"
SHARES = 6
"""Number of tests that share the cases, so that they can run in parallel."""


@pytest.fixture(scope="module")
def misleading_folder(tmp_path_factory: pytest.TempPathFactory, run: Run, corpus_folder: Path) -> Path:
    """A run, its exports, a corpus, and files with misleading names."""
    folder = tmp_path_factory.mktemp("rough")
    shutil.copytree(run.path, folder / "runs" / "tiny")
    shutil.copytree(corpus_folder, folder / "good")
    (folder / "runs" / "tiny" / "model.int8.onnx").unlink()
    write_misleading_files(folder)
    return folder


def write_misleading_files(folder: Path) -> None:
    """Write the files with misleading names again; earlier commands may have replaced them."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in ("runs", "good"):
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    (folder / "a-folder").mkdir()
    (folder / "a-file").write_text("text\n")
    (folder / "noise.onnx").write_bytes(random.Random(0).randbytes(4000))
    artifact = (folder / "runs" / "tiny" / "model.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(artifact[: len(artifact) // 2])


@pytest.fixture(scope="module")
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def run_case(place: Path, port: int, case: Case, prepare: Callable[[], None] | None = None) -> Finished:
    """Run the command of a case."""
    write_misleading_files(place)
    base = [argument.replace(f"--port={TAKEN}", f"--port={port}") for argument in case.base]
    return lmtool(*base, *case.arguments, cwd=place, stdin=case.stdin, prepare=prepare, patience_seconds=600)


def problem_of(case: Case, finished: Finished) -> str | None:
    """The problem of a finished command; None if there is none."""
    code = finished.returncode
    if "Traceback" in finished.stderr or "Traceback" in finished.stdout:
        return "a traceback"
    if code not in case.codes:
        return f"exit code {code}, expected one of {case.codes}"
    if code in (1, 2) and not any(word in finished.stderr for word in ("error: ", "Error")):
        return "no message"
    if code == 2 and finished.stdout:
        return "wrong usage, and yet a result"
    if code == 0 and case.as_json and not is_json(case, finished.stdout):
        return "no JSON object"
    return None


def is_json(case: Case, text: str) -> bool:
    """Whether the text is one JSON object, or one a line if the command prints one for each of its texts."""
    if case.command not in JSON_LINES:
        return is_object(text)
    has_texts = case.base != READS_STDIN[case.command] or case.stdin
    lines = text.removesuffix("\n").split("\n") if text or has_texts else []
    return all(map(is_object, lines))


def is_object(text: str) -> bool:
    """Whether the text is one JSON object without NaN and infinity, which `int` refuses."""
    try:
        return isinstance(json.loads(text, parse_constant=int), dict)
    except ValueError:
        return False


@pytest.mark.parametrize("share", range(SHARES))
def test_every_bad_value_gives_a_message(
    misleading_folder: Path, taken_port: int, share: int, many: Many, tally: Tally
) -> None:
    share_of_cases = cases()[share::SHARES]
    chosen = random.Random(1).sample(share_of_cases, many(4, len(share_of_cases)))
    codes, problems = Counter[int](), []
    for case in chosen:
        finished = run_case(misleading_folder, taken_port, case)
        codes[finished.returncode] += 1
        if problem := problem_of(case, finished):
            problems.append(f"{[*case.base, *case.arguments]}: {problem}\n{finished.stderr[-800:]}")
    assert not problems, "\n\n".join([f"{len(problems)} of {len(chosen)}:", *problems[:10]])
    tally(
        PROMISE,
        tried=len(chosen),
        what=f"commands with a bad value or file, share {share + 1} of {SHARES}",
        tracebacks=0,
        that_must_be_wrong_usage=sum(case.codes == WRONG_USAGE for case in chosen),
        exit_codes=count_by_exit_code(codes),
    )


def test_every_option_is_tried() -> None:
    assert {command for command, _ in commands()} == set(BASE) | set(NOT_TRIED)
    everything = cases()
    runs = [case.base[-1] for case in everything if "--run" in case.base]
    assert len(runs) == len(set(runs)) > 300
    tried = {(case.command, argument.partition("=")[0]) for case in everything for argument in case.arguments}
    for command, function in commands():
        if command not in NOT_TRIED:
            for option, _ in options(function):
                assert option in LONG_WORK or (command, option or "--") in tried
    for key in setting_types():
        assert ("train", key) in tried
    assert sum(case.codes == WRONG_USAGE for case in everything) > 300


def test_injected_faults_are_noticed(misleading_folder: Path, taken_port: int, tally: Tally) -> None:
    """Positive control: a traceback, an accepted NaN, and unexpected exit codes and outputs."""
    read = Case("info", ["info"], ["--model=noise.onnx"])
    assert problem_of(read, run_case(misleading_folder, taken_port, read)) is None
    crashed = run_case(misleading_folder, taken_port, read, injection.fail_to_read_artifacts)
    assert problem_of(read, crashed) == "a traceback"
    count = Case("score", BASE["score"], ["--threads=nan"], WRONG_USAGE)
    assert problem_of(count, run_case(misleading_folder, taken_port, count)) is None
    accepted = problem_of(count, run_case(misleading_folder, taken_port, count, injection.accept_nan))
    assert accepted == "exit code 0, expected one of (2,)"
    endings = itertools.product((0, 1, 2, 3, 4, -11), ("", "error: no file"), ("", "x"))
    any_end = Case("score", [], ["--json"])
    found_problems = {ending: problem_of(any_end, Finished([], ending[0], ending[2], ending[1])) for ending in endings}
    assert found_problems[-11, "error: no file", ""] == "exit code -11, expected one of (0, 1, 2)"
    assert found_problems[4, "error: no file", ""] == "exit code 4, expected one of (0, 1, 2)"
    assert found_problems[1, "", ""] == "no message"
    assert found_problems[2, "error: no file", "x"] == "wrong usage, and yet a result"
    assert found_problems[0, "", "x"] == found_problems[0, "", ""] == "no JSON object"
    assert problem_of(any_end, Finished([], 0, '{"a": 1}\n{"a": 2}\n', "")) is None
    assert problem_of(any_end, Finished([], 0, '{"a": 1}\n{"a": NaN}\n', "")) == "no JSON object"
    assert problem_of(Case("info", [], ["--json"]), Finished([], 0, "{}\n{}\n", "")) == "no JSON object"
    assert found_problems[1, "error: no file", ""] is None
    tally(PROMISE, tried=2, control="planted: a traceback, and `--threads=nan` with exit 0: both found")

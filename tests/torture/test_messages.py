"""Users see messages: every option of every command with values that cannot be right, and files that are no such files.

The cases are made from the command table itself, so that a new option is tried without anybody writing a test for it.
"""

import inspect
import itertools
import random
import shutil
import socket
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from commands import TRAIN, Finished, counted, lmtool
from lmtool.cli.app import app, data_app
from lmtool.model import Run
from thoroughness import Many, Tally

LONG = "x" * 5000
NOT_UTF8 = "\udcff\udc80"  # bytes of an argument that are no UTF-8
PATHS = ["none", "none/none", "a-file", "a-folder", "noise.onnx", "cut.onnx", "/dev/null", "", LONG, NOT_UTF8, "a\nb"]
TEXTS = ["", "none", LONG, NOT_UTF8, "a=b", "=", "../..", "\u202eabc", "0", "-1", "nan", "\N{SNOWMAN}=\N{SNOWMAN}"]
INTEGERS = ["0", "-1", str(2**63), str(-(2**70)), "x", "", "1.5", "nan", "0x10", "\u0663"]
FLOATS = ["nan", "inf", "-inf", "-1", "0", "1e309", "-1e308", "x", ""]
VALUES: dict[type, list[str]] = {Path: PATHS, str: TEXTS, int: INTEGERS, float: FLOATS}

TAKEN = 4  # stands for a port that another program listens on: the server ends when it gets that far
# What makes a command end well and soon, so that only the value in question can be wrong.
BASE: dict[str, list[str]] = {
    "train": [*TRAIN, "--data", "good", "--epochs", "1"],
    "evaluate": ["evaluate"],
    "export": ["export", "--onnx", "--out", "exported.onnx"],
    "verify": ["verify"],
    "info": ["info"],
    "embeddings": ["embeddings", "--near", "the"],
    "generate": ["generate", "--max-tokens", "3", "the"],
    "suggest": ["suggest", "the"],
    "score": ["score", "the cat"],
    "bench": ["bench", "--scenario", "first-step", "--rounds", "1", "--against", "reference", "--save", "saved"],
    "serve": ["serve", f"--port={TAKEN}"],
    "data list": ["data", "list"],
    "data prepare": ["data", "prepare", "good", "--out", "prepared"],
}
NOT_TRIED = {"demo": "it takes no values, and minutes"}
# Large numbers that only mean more of the same: they are right, and take that long.
ENDLESS = {"--epochs", "--max-tokens", "--rounds"}
LONG_WORK = {"--sweep"}
SLOW = {"bench"}  # which starts processes wherever a value is right after all: three values of each option
SERVES = ["--port=0"]  # a server on a free port goes on until it is stopped


def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    for prefix, table in (("", app), ("data ", data_app)):
        for entry in table.registered_commands:
            assert entry.callback is not None
            yield prefix + (entry.name or entry.callback.__name__.replace("_", "-")), entry.callback


def base_type(annotation: Any) -> type:
    """`Path` of `Annotated[list[Path] | None, ...]`."""
    while inner := [part for part in typing.get_args(annotation) if part is not type(None)]:
        annotation = inner[0]
    return typing.cast(type, annotation)


def options(function: Callable[..., Any]) -> Iterator[tuple[str | None, type]]:
    """The names on the command line, None for an argument, and the types."""
    hints = typing.get_type_hints(function, include_extras=True)
    for name in inspect.signature(function).parameters:
        marks = [mark for mark in typing.get_args(hints[name]) if hasattr(mark, "param_decls")]
        if any(isinstance(mark, typer.models.ArgumentInfo) for mark in marks):
            yield None, base_type(hints[name])
        else:
            declared = [text for mark in marks for text in mark.param_decls or () if text.startswith("--")]
            yield (declared or [f"--{name.replace('_', '-')}"])[0], base_type(hints[name])


def cases() -> list[tuple[str, list[str]]]:
    """Every command with each value of each option, alone and, for flags, set."""
    found = []
    for command, function in commands():
        if command in NOT_TRIED:
            continue
        for option, kind in options(function):
            if option in LONG_WORK:
                continue
            if kind is bool:
                found.append((command, [str(option)]))
                continue
            values = VALUES[kind] if command not in SLOW else random.Random(str(option)).sample(VALUES[kind], 3)
            for value in values:
                if option in ENDLESS and value.isdigit() and int(value) > 1000:
                    continue
                arguments = ["--", value] if option is None else [f"{option}={value}"]
                if arguments != SERVES:
                    found.append((command, arguments))
    return found


@pytest.fixture(scope="module")
def rough_place(tmp_path_factory: pytest.TempPathFactory, run: Run, corpus_folder: Path) -> Path:
    """A run, its exports, a corpus, and files that are not what their names say."""
    folder = tmp_path_factory.mktemp("rough")
    shutil.copytree(run.path, folder / "runs" / "tiny")
    shutil.copytree(corpus_folder, folder / "good")
    (folder / "runs" / "tiny" / "model.int8.onnx").unlink()
    (folder / "a-folder").mkdir()
    (folder / "a-file").write_text("text\n")
    (folder / "noise.onnx").write_bytes(random.Random(0).randbytes(4000))
    artifact = run.artifact("fp32").read_bytes()
    (folder / "cut.onnx").write_bytes(artifact[: len(artifact) // 2])
    return folder


@pytest.fixture(scope="module")
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def run_in(place: Path, port: int, command: str, *arguments: str) -> Finished:
    base = [argument.replace(f"--port={TAKEN}", f"--port={port}") for argument in BASE[command]]
    return lmtool(*base, *arguments, cwd=place, patience_seconds=600)


def complaint(finished: Finished) -> str | None:
    """What is wrong with how a command ended; None where nothing is."""
    if finished.returncode not in (0, 1, 2, 3):
        return f"exit code {finished.returncode}"
    if "Traceback" in finished.stderr or "Traceback" in finished.stdout:
        return "a traceback"
    if finished.returncode in (1, 2) and not any(word in finished.stderr for word in ("error: ", "Error")):
        return "no message"
    if finished.returncode == 2 and finished.stdout:
        return "wrong usage, and yet a result"
    return None


def test_every_command_meets_every_bad_value_with_a_message(
    rough_place: Path, taken_port: int, many: Many, tally: Tally
) -> None:
    everything = cases()
    chosen = random.Random(1).sample(everything, min(many(20, len(everything)), len(everything)))
    codes: dict[int, int] = {}
    complaints = []
    for command, arguments in chosen:
        finished = run_in(rough_place, taken_port, command, *arguments)
        codes[finished.returncode] = codes.get(finished.returncode, 0) + 1
        if wrong := complaint(finished):
            complaints.append(f"{[*BASE[command], *arguments]}: {wrong}\n{finished.stderr[-800:]}")
    assert not complaints, "\n\n".join([f"{len(complaints)} of {len(chosen)}:", *complaints[:10]])
    tally(
        "Users see messages",
        tried=len(chosen),
        what="commands with a bad value or file",
        tracebacks=0,
        exit_codes=counted(codes),
    )


def test_numbers_that_are_none_are_wrong_usage(rough_place: Path, taken_port: int) -> None:
    found = [(command, name) for command, function in commands() for name, kind in options(function) if kind is int]
    for command, option in random.Random(2).sample(found, 3):
        finished = run_in(rough_place, taken_port, command, f"{option}=x")
        assert finished.returncode == 2, (command, option, finished.stderr)


def test_the_table_of_commands_is_tried_whole() -> None:
    assert {command for command, _ in commands()} == set(BASE) | set(NOT_TRIED)
    tried = {(command, argument.partition("=")[0]) for command, arguments in cases() for argument in arguments}
    for command, function in commands():
        if command not in NOT_TRIED:
            for option, _ in options(function):
                assert option in LONG_WORK or (command, option or "--") in tried


def test_a_command_that_fails_without_a_message_is_noticed() -> None:
    """The positive control: what this file looks for is found where it is."""
    endings = itertools.product(
        (0, 1, 2, 3, 4, -11), ("", "Traceback (most recent call last):", "error: no file"), ("", "x")
    )
    wrong = {
        (code, bool(err), bool(out))
        for code, err, out in endings
        if complaint(Finished([], code, out, err)) is not None
    }
    assert (-11, True, False) in wrong
    assert (4, True, True) in wrong
    assert (1, False, False) in wrong
    assert (2, True, True) in wrong
    assert complaint(Finished([], 0, "", "Traceback (most recent call last):")) == "a traceback"
    assert complaint(Finished([], 1, "", "error: no file")) is None

"""Commands with values that cannot be right, made from the command table and from the fields of a configuration.

A new option or field is tried without anybody writing a test for it. Where its type decides how the command ends, a
case says so; of the others it is known only that they end in order.
"""

import inspect
import itertools
import math
import random
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
from lmtool.cli.app import app, data_app
from lmtool.cli.serve import server_options
from lmtool.model.training.config import setting_types

from support.processes.commands import TRAIN

LONG = "x" * 5000
NOT_UTF8 = "\udcff\udc80"  # bytes of an argument that are no UTF-8
PATHS = ["none", "none/none", "a-file", "a-folder", "noise.onnx", "cut.onnx", "/dev/null", "", LONG, NOT_UTF8, "a\nb"]
TEXTS = ["", "none", LONG, NOT_UTF8, "a=b", "=", "../..", "\u202eabc", "0", "-1", "nan", "\N{SNOWMAN}=\N{SNOWMAN}"]
INTEGERS = ["0", "-1", str(2**63), str(-(2**70)), "x", "", "1.5", "nan", "0x10", "9" * 5000, "\u0663"]
FLOATS = ["nan", "inf", "-inf", "-1", "0", "1e309", "-1e308", "x", "", "9" * 5000]
VALUES: dict[type, list[str]] = {Path: PATHS, str: TEXTS, int: INTEGERS, float: FLOATS}
SETTINGS = ["nan", "-1", "0", "x", "", "1e308", "1e39", "1e-320", "-inf", "9" * 5000, str(2**63), "1,nan", NOT_UTF8]
FAR_OUT = ["learning_rate=1e308", "init_range=1e39", "clip_norm=1e-320"]
"""Settings that are numbers, but hardly ones to compute with: tried with each optimiser."""
STDIN = [b"\xff\xfe", b"the cat \xe9", b"the\0cat", "the cat".encode("utf-16"), b"", b"\n\n", bytes(range(256)) * 100]

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
READS_STDIN = {"generate": ["generate", "--max-tokens", "3"], "suggest": ["suggest"], "score": ["score"]}
# Large numbers that only mean more of the same: they are right, and take that long.
ENDLESS = {"--epochs", "--max-tokens", "--rounds", "epochs"}
LONG_WORK = {"--sweep"}
SLOW = {"bench"}  # which starts processes wherever a value is right after all: three values of each option
SERVES = ["--port=0"]  # a server on a free port goes on until it is stopped

IN_ORDER = (0, 1, 2)
FAILED = (1,)
WRONG_USAGE = (2,)


@dataclass(frozen=True)
class Case:
    """A command with one value that cannot be right.

    Attributes:
        command: Its name in the table.
        base: What is right of it.
        arguments: What is not.
        codes: The exit codes that it may end with.
        stdin: What it can read.
    """

    command: str
    base: list[str]
    arguments: list[str]
    codes: tuple[int, ...] = IN_ORDER
    stdin: bytes = b""

    @property
    def as_json(self) -> bool:
        """Whether it is asked for JSON."""
        return "--json" in self.arguments


def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Their names and functions."""
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
    parameters = {name: parameter.annotation for name, parameter in inspect.signature(function).parameters.items()}
    if parameters.pop("ctx", None) is typer.Context:  # the command `serve`
        parameters |= {option.name: option.annotation for option in server_options()}
    for name, annotation in parameters.items():
        marks = [mark for mark in typing.get_args(annotation) if hasattr(mark, "param_decls")]
        if any(isinstance(mark, typer.models.ArgumentInfo) for mark in marks):
            yield None, base_type(annotation)
        else:
            names = [text for mark in marks for text in (mark.default, *(mark.param_decls or ()))]
            names = [text for text in names if isinstance(text, str) and text.startswith("--")]
            yield (names or [f"--{name.replace('_', '-')}"])[0], base_type(annotation)


def is_number(kind: type, value: str) -> bool:
    """Whether the text is one of this type; infinity and NaN are none."""
    try:
        return math.isfinite(kind(value))
    except OverflowError:  # of a whole number too large for a float
        return True
    except ValueError:
        return False


def expected(kind: type, value: str, option: str | None = None) -> tuple[int, ...]:
    """How a command may end that is given this value for an option of this type."""
    if option == "--model" and value not in ("", NOT_UTF8):
        return FAILED  # there is no file, or it is no artifact
    return WRONG_USAGE if kind in (int, float) and not is_number(kind, value) else IN_ORDER


def option_cases() -> Iterator[Case]:
    """Every command with each value of each option, alone and, for flags, set."""
    for command, function in commands():
        for option, kind in options(function) if command not in NOT_TRIED else ():
            if option in LONG_WORK:
                continue
            if kind is bool:
                yield Case(command, BASE[command], [str(option)])
                continue
            values = VALUES[kind] if command not in SLOW else random.Random(str(option)).sample(VALUES[kind], 3)
            for value in values:
                arguments = ["--", value] if option is None else [f"{option}={value}"]
                if arguments != SERVES and not _is_endless(option, value):
                    yield Case(command, BASE[command], arguments, expected(kind, value, option))


def _is_endless(name: str | None, value: str) -> bool:
    return name in ENDLESS and value.isdigit() and int(value[:4000]) > 1000 and len(value) < 4000


def setting_cases() -> Iterator[Case]:
    """`train --set KEY=VALUE` with each field of a configuration."""
    for number, (key, annotation) in enumerate(setting_types().items()):
        kind = base_type(annotation)
        for at, value in enumerate(SETTINGS):
            if not _is_endless(key, value):
                codes = expected(kind, value) if kind in (int, float) else IN_ORDER
                codes = WRONG_USAGE if kind is bool or (kind is int and value == "-1") else codes
                whole = BASE["train"] if key != "epochs" else BASE["train"][:-2]  # where `--epochs 1` counts for more
                base = [*whole, "--run", f"set-{number}-{at}"]
                yield Case("train", base, ["--set", f"{key}={value}"], codes)
    for at, (setting, optimizer) in enumerate(itertools.product(FAR_OUT, ("sgd", "adamw"))):
        base = [*BASE["train"], "--set", f"optimizer={optimizer}", "--run", f"far-out-{at}"]
        yield Case("train", base, ["--set", setting])


def stdin_cases() -> Iterator[Case]:
    """Commands that read text from standard input, which is none, or odd."""
    for command, base in READS_STDIN.items():
        for data in STDIN:
            yield Case(command, base, [], IN_ORDER if _is_text(data) else FAILED, data)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def cases() -> list[Case]:
    """All of them; every third of a command that has `--json` once more with it."""
    found = [*option_cases(), *setting_cases(), *stdin_cases()]
    speaks = {command for command, function in commands() if "--json" in dict(options(function))}
    once_more = [case for case in found[::3] if case.command in speaks and not case.as_json]
    return [*found, *map(_as_json, once_more)]


def _as_json(case: Case) -> Case:
    """The same once more; a run folder that it makes is another one."""
    base = [*case.base[:-1], f"{case.base[-1]}-json"] if "--run" in case.base else case.base
    return replace(case, base=base, arguments=["--json", *case.arguments])

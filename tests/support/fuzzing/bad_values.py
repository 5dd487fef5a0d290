"""Commands with invalid values, generated from the command table and the fields of the configuration.

New options and fields are tested automatically. A case states the expected exit codes where the type of the value
determines them; otherwise any orderly end is accepted.
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
NOT_UTF8 = "\udcff\udc80"  # argument bytes that are not UTF-8
PATHS = ["none", "none/none", "a-file", "a-folder", "noise.onnx", "cut.onnx", "/dev/null", "", LONG, NOT_UTF8, "a\nb"]
TEXTS = ["", "none", LONG, NOT_UTF8, "a=b", "=", "a-folder/.", "\u202eabc", "0", "-1", "nan", "\N{SNOWMAN}=\N{SNOWMAN}"]
INTEGERS = ["0", "-1", str(2**63), str(-(2**70)), "x", "", "1.5", "nan", "0x10", "9" * 5000, "\u0663"]
FLOATS = ["nan", "inf", "-inf", "-1", "0", "1e309", "-1e308", "x", "", "9" * 5000]
VALUES: dict[type, list[str]] = {Path: PATHS, str: TEXTS, int: INTEGERS, float: FLOATS}
SETTINGS = ["nan", "-1", "0", "x", "", "1e308", "1e39", "1e-320", "-inf", "9" * 5000, str(2**63), "1,nan", NOT_UTF8]
FAR_OUT = ["learning_rate=1e308", "init_range=1e39", "clip_norm=1e-320"]
"""Settings with extreme numbers, tested with each optimizer."""
STDIN = [b"\xff\xfe", b"the cat \xe9", b"the\0cat", "the cat".encode("utf-16"), b"", b"\n\n", bytes(range(256)) * 100]

TAKEN = 4  # placeholder of a port that is in use, so that the server ends when it binds
# Arguments with which a command succeeds quickly, so that only the tested value can be invalid.
BASE: dict[str, list[str]] = {
    "train": [*TRAIN, "--data", "good", "--epochs", "1"],
    "import": ["import", "runs/tiny/checkpoints/best.safetensors", "--run=imported"],
    "evaluate": ["evaluate"],
    "export": ["export", "--onnx", "--out", "exported.onnx"],
    "verify": ["verify"],
    "doctor": ["doctor", "runs/tiny/model.onnx"],
    "info": ["info"],
    "embeddings": ["embeddings", "--near", "the"],
    "generate": ["generate", "--max-tokens", "3", "the"],
    "suggest": ["suggest", "the"],
    "score": ["score", "the cat"],
    "rescore": ["rescore"],
    "bench": ["bench", "--scenario", "first-step", "--rounds", "1", "--against", "reference", "--save", "saved"],
    "serve": ["serve", f"--port={TAKEN}"],
    "presets": ["presets"],
    "settings": ["settings"],
    "data list": ["data", "list"],
    "data prepare": ["data", "prepare", "good", "--out", "prepared"],
}
NOT_TRIED = {"demo": "it takes no values, and minutes"}
READS_STDIN = {"generate": ["generate", "--max-tokens", "3"], "suggest": ["suggest"], "score": ["score"]}
READS_STDIN |= {"rescore": ["rescore"]}
JSON_LINES = {"score"}  # `--json` prints an object a line, for each text
# Options for which large numbers are valid and only take long.
ENDLESS = {"--epochs", "--max-tokens", "--rounds", "--max-rounds", "--loadgen-seconds", "epochs"}
LONG_WORK = {"--sweep", "--mlperf", "--max-rate"}
SLOW = {"bench"}  # starts processes if a value is valid after all: test three values of each option
SERVES = ["--port=0"]  # a server on a free port runs until it is stopped

IN_ORDER = (0, 1, 2)
FAILED = (1,)
WRONG_USAGE = (2,)


@dataclass(frozen=True)
class Case:
    """A command with one invalid value.

    Attributes:
        command: Its name in the table.
        base: The valid arguments.
        arguments: The invalid arguments.
        codes: The accepted exit codes.
        stdin: Its standard input.
    """

    command: str
    base: list[str]
    arguments: list[str]
    codes: tuple[int, ...] = IN_ORDER
    stdin: bytes = b""

    @property
    def as_json(self) -> bool:
        """Whether its output is JSON."""
        return "--json" in self.arguments


def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Names and functions of the commands."""
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
    """Names on the command line (None for an argument) and types of a command's options."""
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
    """Whether the text is a finite number of this type."""
    try:
        return math.isfinite(kind(value))
    except OverflowError:  # an integer too large for a float
        return True
    except ValueError:
        return False


def expected(kind: type, value: str, option: str | None = None) -> tuple[int, ...]:
    """Accepted exit codes of a command with this value for an option of this type."""
    if option == "--model" and value not in ("", NOT_UTF8):
        return FAILED  # no file, or not an artifact
    return WRONG_USAGE if kind in (int, float) and not is_number(kind, value) else IN_ORDER


def option_cases() -> Iterator[Case]:
    """Every command with each value of each option, and with each flag."""
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
                whole = BASE["train"] if key != "epochs" else BASE["train"][:-2]  # `--epochs 1` would override it
                base = [*whole, "--run", f"set-{number}-{at}"]
                yield Case("train", base, ["--set", f"{key}={value}"], codes)
    for at, (setting, optimizer) in enumerate(itertools.product(FAR_OUT, ("sgd", "adamw"))):
        base = [*BASE["train"], "--set", f"optimizer={optimizer}", "--run", f"far-out-{at}"]
        yield Case("train", base, ["--set", setting])


def stdin_cases() -> Iterator[Case]:
    """Commands that read standard input, with input that is not text, or odd."""
    for command, base in READS_STDIN.items():
        for data in STDIN:
            yield Case(command, base, [], IN_ORDER if _is_text(data) else FAILED, data)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


def cases() -> list[Case]:
    """All cases; every third case of a command with `--json` also with that option."""
    plain = [*option_cases(), *setting_cases(), *stdin_cases()]
    has_json = {command for command, function in commands() if "--json" in dict(options(function))}
    repeated = [case for case in plain[::3] if case.command in has_json and not case.as_json]
    return [*plain, *map(_as_json, repeated)]


def _as_json(case: Case) -> Case:
    """The same case with `--json`, and another run folder if it makes one."""
    base = [*case.base[:-1], f"{case.base[-1]}-json"] if "--run" in case.base else case.base
    return replace(case, base=base, arguments=["--json", *case.arguments])

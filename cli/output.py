"""What commands have in common: errors become messages and exit codes, results become text or one JSON object."""

import errno
import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, ParamSpec

import typer

_Parameters = ParamSpec("_Parameters")
_PACKAGES_OF_EXTRAS = {
    "torch": "train",
    "onnx": "train",
    "safetensors": "train",
    "filelock": "train",
    "matplotlib": "report",
    "sklearn": "report",
    "jinja2": "report",
    "tensorboard": "tensorboard",
    "onnxruntime": "cpu",
    "prompt_toolkit": "cli",
    "pytest": "bench",
    "pytest_benchmark": "bench",
    "starlette": "serve",
    "uvicorn": "serve",
    "pydantic": "serve",
    "prometheus_client": "serve",
}
_OF_PLACES = (
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
    errno.EILSEQ,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
)
"""What looking up a name that a user gave, or a disk, can end with. A file that is missing is none of these: commands
look for theirs first, so that one which is not there later is a mistake of ours."""
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def command(function: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    """Turn what a user can cause into a message on stderr and an exit code."""

    @functools.wraps(function)
    def run(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except KeyboardInterrupt:
            raise _failed("interrupted", 130) from None
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _PACKAGES_OF_EXTRAS:
                raise
            extra = _PACKAGES_OF_EXTRAS[package]
            raise _failed(f"this command needs {package}; pip install 'lmtool[{extra}]'", 1) from None
        except Exception as error:
            from ..runtime.errors import LmtoolError

            if isinstance(error, LmtoolError):
                raise _failed(str(error), error.exit_code) from None
            if isinstance(error, OSError) and error.filename is not None and error.errno in _OF_PLACES:
                raise _failed(f"cannot use {error.filename}: {error.strerror}", 1) from None
            raise

    return run


def speaks() -> bool:
    """Whether this process reports: of several that torchrun started only the first one does."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK") == "0"


def say(line: str) -> None:
    """Tell people something, on stderr."""
    if speaks():
        print(escaped(line), file=sys.stderr, flush=True)


def escaped(text: str) -> str:
    """Text that a terminal only shows: control characters but newline and tab as `\\x1b`.

    Names, words and facts in a stranger's files could hold any, and so move the cursor or write the window's title.
    """
    return text.translate(_CONTROLS)


def give(as_json: bool, text: str, value: Any, coloured: bool = False) -> None:
    """Print the result on stdout: `text` for people, or `value` as one JSON object.

    Args:
        as_json: Which of them.
        text: For people; its control characters are escaped.
        value: Anything that JSON holds.
        coloured: Whether the text holds colours, and has been escaped but for them.
    """
    if as_json:
        from ..runtime.io.files import json_text

        text = json_text(value, indent=1)
    if text:
        _print(f"{text if coloured else escaped(text)}\n")


def write(text: str) -> None:
    """Write text of a model's to stdout at once: to a terminal escaped, elsewhere as it is.

    Raises:
        typer.Exit: Nobody reads it any more, or it cannot be written.
    """
    _print(escaped(text) if sys.stdout is not None and sys.stdout.isatty() else text)


def _print(text: str) -> None:
    """Print at once; what the encoding lacks is written as an escape, as on stderr (see `main`)."""
    if not speaks():
        return
    try:
        print(text, end="", flush=True)
    except OSError as error:
        # What is left in the buffer would be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(141) from None
        raise _failed(f"cannot write to standard output: {error.strerror}", 1) from None


def require(module: str) -> None:
    """Import a module that a command will need later, so that it is missed before the work and not after it."""
    importlib.import_module(module)


def _failed(message: str, code: int) -> typer.Exit:
    print(escaped(f"error: {message}"), file=sys.stderr, flush=True)
    return typer.Exit(code)

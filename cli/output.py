"""What commands have in common: errors become messages and exit codes, results become text or one JSON object."""

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
            if isinstance(error, OSError) and error.filename is not None:  # a name too long to be looked up, for one
                raise _failed(f"cannot use {error.filename}: {error.strerror}", 1) from None
            raise

    return run


def speaks() -> bool:
    """Whether this process reports: of several that torchrun started only the first one does."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK") == "0"


def say(line: str) -> None:
    """Tell people something, on stderr."""
    if speaks():
        print(line, file=sys.stderr, flush=True)


def give(as_json: bool, text: str, value: Any) -> None:
    """Print the result on stdout: `text` for people, or `value` as one JSON object."""
    if as_json:
        from ..runtime.files import json_text

        text = json_text(value, indent=1)
    if text:
        write(f"{text}\n")


def write(text: str) -> None:
    """Write to stdout at once; what its encoding lacks is written as an escape, as on stderr (see `main`).

    Raises:
        typer.Exit: Nobody reads it any more, or it cannot be written.
    """
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
    print(f"error: {message}", file=sys.stderr, flush=True)
    return typer.Exit(code)

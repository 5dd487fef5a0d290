"""Errors become messages and exit codes; results become text or one JSON object."""

import contextlib
import errno
import functools
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, ParamSpec, TextIO, final

import typer

_Parameters = ParamSpec("_Parameters")
_PACKAGES_OF_EXTRA = {
    "train": ("torch", "onnx", "safetensors", "filelock"),
    "report": ("matplotlib", "sklearn", "jinja2"),
    "tensorboard": ("tensorboard",),
    "cpu": ("onnxruntime",),
    "cli": ("prompt_toolkit",),
    "bench": ("pytest", "pytest_benchmark"),
    "keras": ("h5py",),
    "rescore": ("jiwer",),
    "serve": ("starlette", "uvicorn", "pydantic", "prometheus_client"),
}
_EXTRA_OF_PACKAGE = {package: extra for extra, packages in _PACKAGES_OF_EXTRA.items() for package in packages}
_PATH_ERRORS = ["ENAMETOOLONG", "ELOOP", "EINVAL", "EILSEQ", "EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EIO"]
"""Errors that a path from the user or a full or broken disk causes. ENOENT is absent: commands check that their files
exist, so a file that is missing later is a bug."""
_PACKAGE = "lmtool."
_CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def with_exit_codes(function: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    """Turn errors that a user can cause into a message on stderr and an exit code."""

    @functools.wraps(function)
    def run(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        with exit_codes(), _shown_warnings():
            _limit_threads()
            function(*args, **kwargs)

    return run


def _limit_threads() -> None:
    """Let OpenMP start as many threads as the CPU quota of a container allows; it counts cores only."""
    from ..runtime.system import cpu_quota, usable_cores

    if cpu_quota() is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))


@contextlib.contextmanager
def _shown_warnings() -> Iterator[None]:
    """Print the warnings of rooms as a line on stderr."""
    show = warnings.showwarning

    def show_ours(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
        if category.__module__.startswith(_PACKAGE):
            return print_status(f"warning: {message}")
        return show(message, category, *where, **options)

    with warnings.catch_warnings():
        warnings.showwarning = show_ours
        yield


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Turn errors that a user can cause into a message on stderr and `typer.Exit` with its code; re-raise others."""
    try:
        yield
    except KeyboardInterrupt:
        raise _failure("interrupted", 130) from None
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA_OF_PACKAGE:
            raise
        extra = _EXTRA_OF_PACKAGE[package]
        raise _failure(f"this command needs {package}; pip install 'lmtool[{extra}]'", 1) from None
    except Exception as error:
        from ..runtime.errors import LmtoolError

        if isinstance(error, LmtoolError):
            raise _failure(str(error), error.exit_code) from None
        if (
            isinstance(error, OSError)
            and error.filename is not None
            and errno.errorcode.get(error.errno or 0) in _PATH_ERRORS
        ):
            raise _failure(f"cannot use {error.filename}: {error.strerror}", 1) from None
        raise


def reports() -> bool:
    """Whether this process prints. Of the processes that torchrun starts only the first does."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK") == "0"


def animates() -> bool:
    """Whether progress may redraw its line on stderr."""
    return reports() and is_screen(sys.stderr)


def is_screen(file: TextIO | None) -> bool:
    """Whether a file is a terminal that can move the cursor; one with `TERM=dumb` cannot."""
    return file is not None and file.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


_USUAL_COLUMNS = 80


def text_width() -> int | None:
    """Columns that text on stdout may take: `COLUMNS`, else the terminal's; None, no limit, in pipes and files."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    try:  # shutil asks sys.__stdout__, which has been replaced
        return os.get_terminal_size(sys.stdout.fileno()).columns or _USUAL_COLUMNS
    except OSError:
        return _USUAL_COLUMNS


def print_status(line: str) -> None:
    """Print a line on stderr."""
    if reports():
        print(escaped(line), file=sys.stderr, flush=True)


def escaped(text: str) -> str:
    """Replace control characters other than newline and tab, `\\x1b` for example.

    Names, words and metadata may come from a stranger's file. Unescaped they could move the cursor or set the window's
    title.
    """
    return text.translate(_CONTROL_CHARACTERS)


def print_result(as_json: bool, text: str, value: Any, coloured: bool = False) -> None:
    """Print the result on stdout; lines that are too long for the terminal are wrapped at spaces.

    Args:
        as_json: Print `value` instead of `text`.
        text: For people; its control characters are escaped.
        value: Anything that JSON can hold.
        coloured: `text` holds colours, and the rest of it is escaped already.
    """
    if as_json:
        from ..runtime.io.files import json_text

        text = json_text(value, indent=1)
    elif not coloured:
        text = _fitted(escaped(text))
    if text:
        _print(f"{text}\n")


def _fitted(text: str) -> str:
    from ..runtime.io.text_table import folded

    width = text_width()
    return text if width is None else folded(text, width)


def print_text(text: str) -> None:
    """Print a model's text on stdout without delay: escaped on a terminal, unchanged elsewhere."""
    _print(escaped(text) if sys.stdout is not None and sys.stdout.isatty() else text)


def _print(text: str) -> None:
    if reports():
        print(text, end="", flush=True)


@final
class Stdout(io.TextIOWrapper):
    """Standard output that ends the program when it cannot be written: with one message, or silently without reader."""

    def write(self, text: str, /) -> int:
        """Write text, or exit."""
        try:
            return super().write(text)
        except OSError as error:
            self._exit(error)

    def flush(self) -> None:
        """Flush the buffer, or exit."""
        try:
            super().flush()
        except OSError as error:
            self._exit(error)

    def _exit(self, error: OSError) -> NoReturn:
        # Otherwise Python would try to write the rest again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(141)
        print(f"error: cannot write to standard output: {error.strerror}", file=sys.stderr)
        sys.exit(1)


@final
class Stderr(io.TextIOWrapper):
    """Standard error whose lines are lost where it cannot be written: a closed terminal must not end a training."""

    def write(self, text: str, /) -> int:
        """Write text, if possible."""
        try:
            return super().write(text)
        except OSError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        """Flush the buffer, if possible."""
        try:
            super().flush()
        except OSError:
            self._discard()

    def _discard(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


def require_module(module: str) -> None:
    """Import a module that a command needs later, so that a missing package is reported before any work is done."""
    importlib.import_module(module)


def _failure(message: str, code: int) -> typer.Exit:
    print(escaped(f"error: {message}"), file=sys.stderr, flush=True)
    return typer.Exit(code)

"""What the programs have in common that the harness runs: which runtime, from where, and how they answer."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...runtime.errors import LmtoolError, ProviderError
from ...runtime.io.files import json_text, write_atomically
from ..backends.registry import BACKENDS, Source

REFUSED = "refused"
"""The key of a report that holds nothing but an error of ours."""

BY_PROVIDER = "by_provider"
"""Beside it: whether that is about the execution provider."""


def source_parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that name a runtime, and the file to write."""
    parser = argparse.ArgumentParser(prog=f"python -m lmtool.bench.{program}", description=description)
    parser.add_argument("--runtime", choices=BACKENDS, required=True, help="what to run")
    parser.add_argument("--artifact", type=Path, required=True, help="ONNX file")
    parser.add_argument("--original", type=Path, help="run folder of the original, or another artifact")
    parser.add_argument("--provider", default="cpu", help="execution provider")
    parser.add_argument("--threads", type=int, default=1, help="threads of one call")
    parser.add_argument("--out", type=Path, required=True, help="file for the report, JSON")
    return parser


def source_of(chosen: argparse.Namespace) -> Source:
    """What the options name."""
    return Source(chosen.artifact, chosen.original, chosen.provider, chosen.threads)


def answer(out: Path, work: Callable[[], dict[str, Any]]) -> None:
    """Write what `work` finds; an error of ours is written too, which tells it from a crash, and ends the program."""
    try:
        found, code = work(), 0
    except LmtoolError as error:
        print(error, file=sys.stderr)  # noqa: T201
        found, code = {REFUSED: str(error), BY_PROVIDER: isinstance(error, ProviderError)}, error.exit_code
    write_atomically(out, json_text(found).encode())
    sys.exit(code)

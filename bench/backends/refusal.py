"""A runtime's refusal of a file as a `BenchError`."""

from pathlib import Path

from ...runtime.errors import truncated
from ..errors import BenchError

_SHOWN_CHARACTERS = 300


def refusal(runtime: str, artifact: Path, error: Exception | str) -> BenchError:
    """The error that says which runtime cannot run which file, and why, in one line."""
    reason = truncated(" ".join(str(error).split()), _SHOWN_CHARACTERS)
    return BenchError(f"{runtime} cannot run {artifact}: {reason}")

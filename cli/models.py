"""The artifact that a command is about."""

from pathlib import Path
from typing import TYPE_CHECKING

from .output import say

if TYPE_CHECKING:
    from ..runtime import Predictor


def latest_model() -> Path:
    """The youngest export, named on stderr so that nobody is left to guess."""
    from ..runtime import latest_artifact

    path = latest_artifact()
    say(f"model: {path}")
    return path


def load_predictor(model: Path | None, threads: int) -> "Predictor":
    """The predictor of the artifact that was named, else of the youngest export."""
    from ..runtime import Predictor

    return Predictor.load(model or latest_model(), threads=threads)

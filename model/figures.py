"""PNG figures, and the learning curves: perplexity of train and valid over the epochs.

Other modules take matplotlib's names from here, so that its first import is this one.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..runtime.errors import OptionError
from ..runtime.io.files import RETRY_AFTER_SECONDS, write_atomically
from ..runtime.score import format_perplexity
from .fonts import choose_fonts
from .matplotlib_folder import matplotlib_folder

with matplotlib_folder():
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter, MaxNLocator, ScalarFormatter

__all__ = ["Figure", "MaxNLocator", "check_png_name", "colormaps", "draw_curves", "png"]


def check_png_name(path: Path) -> None:
    """Raise `OptionError` unless the name ends in `.png`."""
    if path.suffix.lower() != ".png":
        raise OptionError(f"cannot draw into {path}: pictures are PNG files, expected a name that ends in .png")


def png(figure: Figure, dots_per_inch: int = 110) -> bytes:
    """The bytes of a PNG file of the figure.

    Warns:
        GlyphWarning: Labels hold characters that no installed font has.
    """
    choose_fonts(figure)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # ours names all of them, and what to install
        figure.savefig(file, format="png", dpi=dots_per_inch)
    return file.getvalue()


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the perplexities in the records of a training into a PNG file.

    Raises:
        StorageError: It cannot be written.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for kind, style in (("train", "-"), ("valid", "o-")):
        points = [(record["epoch"], record["perplexity"]) for record in history if record["kind"] == kind]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=f"{kind}, last {format_perplexity(points[-1][1], 1)}")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    axes.set_xlabel("epoch")
    axes.set_ylabel("perplexity (log scale)")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    write_atomically(path, png(figure, 120), RETRY_AFTER_SECONDS)

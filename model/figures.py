"""Figures as PNG files' bytes, drawn without a display."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from ..runtime.errors import OptionError


def check_png_name(path: Path) -> None:
    """See to it that a name does not promise another format than the one that is written.

    Raises:
        OptionError: It does not end in `.png`.
    """
    if path.suffix.lower() != ".png":
        raise OptionError(f"cannot draw into {path}: pictures are PNG files, expected a name that ends in .png")


def png(figure: Figure, dots_per_inch: int = 110) -> bytes:
    """The figure as a PNG file's content."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dots_per_inch)
    return picture.getvalue()

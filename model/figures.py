"""Figures as PNG files' bytes, drawn without a display."""

import io

from matplotlib.figure import Figure


def png(figure: Figure, dots_per_inch: int = 110) -> bytes:
    """The figure as a PNG file's content."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dots_per_inch)
    return picture.getvalue()

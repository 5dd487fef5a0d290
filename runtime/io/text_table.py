"""Tables of plain text."""

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], alignment: str = "<", indent: str = "") -> list[str]:
    """Align the cells of a header and its rows; columns are two spaces apart.

    Args:
        rows: Rows of equal length.
        alignment: `<` (left) or `>` (right) for each column; the last one holds for all further columns.
        indent: Start of each line.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = alignment.ljust(len(widths), alignment[-1])
    formats = [f"{side}{width}" for side, width in zip(sides, widths, strict=True)]
    return [(indent + "  ".join(map(format, row, formats))).rstrip() for row in rows]

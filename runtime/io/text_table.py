"""Tables of plain text that fit a screen: nothing is cut, columns move below each other instead."""

import textwrap
from collections.abc import Sequence

_GAP = "  "
_NARROWEST_PROSE = 24
"""Fewest columns that a column of sentences is wrapped into."""

Row = Sequence[str]


def text_table(rows: Sequence[Row], alignment: str = "<", indent: str = "", width: int | None = None) -> list[str]:
    """Align the cells of a header and its rows; columns are two spaces apart.

    Args:
        rows: Rows of equal length.
        alignment: `<` (left) or `>` (right) for each column; the last one holds for all further columns.
        indent: Start of each line.
        width: Columns of the screen. A wider table becomes several, an empty line apart, each with the first column and
            as many further ones as fit. None: no limit.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = alignment.ljust(len(widths), alignment[-1])
    blocks = _blocks(widths, None if width is None else width - len(indent))
    lines = []
    for number, columns in enumerate(blocks):
        lines += [""] * (number > 0)
        for row in rows:
            cells = [f"{row[column]:{sides[column]}{widths[column]}}" for column in columns]
            lines.append((indent + _GAP.join(cells)).rstrip(" "))
    return lines


def prose_table(header: Row | None, rows: Sequence[Row], indent: str = "", width: int | None = None) -> list[str]:
    """A table whose last column holds sentences, which are wrapped.

    Args:
        header: Names of the columns; None for none.
        rows: Rows of equal length.
        indent: Start of each line.
        width: Columns of the screen. Where they are too few, the sentences stand below their row, and where that is too
            wide, each cell stands in a line. None: no limit.
    """
    names = header or [""] * len(rows[0])
    table = [*([] if header is None else [header]), *rows]
    fronts = text_table([row[:-1] for row in table], indent=indent)
    start = max(map(len, fronts)) + len(_GAP)
    if width is None or width - start >= _NARROWEST_PROSE:
        return _beside(fronts, [row[-1] for row in table], start, width)
    inner = indent + 2 * _GAP
    lines = []
    for front, row in zip(fronts, table, strict=True):
        if start - len(_GAP) <= width:
            lines.append(front)
        elif row is not header:
            lines += [f"{indent}{row[0]}", *(f"{inner}{name}: {cell}" for name, cell in _middle(names, row))]
        if row is not header:
            lines += [inner + line for line in wrapped(row[-1], width - len(inner))]
    return lines


def folded(text: str, width: int) -> str:
    """The text with its longer lines wrapped at spaces, continued four columns deeper; nothing else changes."""
    lines: list[str] = []
    for line in text.split("\n"):
        start = line[: len(line) - len(line.lstrip())]
        first, *others = wrapped(line.lstrip(), width - len(start)) if len(line) > width else [line[len(start) :]]
        deeper = start + 2 * _GAP
        lines += [start + first, *(deeper + part for part in wrapped(" ".join(others), width - len(deeper)) if others)]
    return "\n".join(lines)


def wrapped(text: str, width: int | None) -> list[str]:
    """The text in lines of at most `width` columns, one line at least; longer words stay whole."""
    if width is None:
        return [text]
    return textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False) or [""]


def _beside(fronts: Sequence[str], texts: Sequence[str], start: int, width: int | None) -> list[str]:
    lines = []
    for front, text in zip(fronts, texts, strict=True):
        first, *others = wrapped(text, None if width is None else width - start)
        lines += [f"{front:{start}}{first}".rstrip(" "), *(" " * start + line for line in others)]
    return lines


def _middle(header: Row, row: Row) -> list[tuple[str, str]]:
    return [(name, cell) for name, cell in zip(header[1:-1], row[1:-1], strict=True) if cell]


def _blocks(widths: Sequence[int], most: int | None) -> list[list[int]]:
    """The columns of each block."""
    blocks = [[0]]
    for column in range(1, len(widths)):
        taken = sum(widths[other] + len(_GAP) for other in blocks[-1])
        if most is not None and len(blocks[-1]) > 1 and taken + widths[column] > most:
            blocks.append([0])
        blocks[-1].append(column)
    return blocks

"""Tables of plain text by hand."""

import pytest
from lmtool.runtime.io.text_table import prose_table, text_table


def test_columns_are_aligned() -> None:
    rows = [("name", "n", "more"), ("a", "1,000", "x"), ("long name", "2", "")]
    assert text_table(rows, "<>", "  ") == [
        "  name           n  more",
        "  a          1,000     x",
        "  long name      2",
    ]
    assert text_table(rows) == ["name       n      more", "a          1,000  x", "long name  2"]


ROWS = [("name", "n", "p50", "speed-up"), ("torch", "1,796", "557 us", "1"), ("onnx", "4,197", "238 us", "2.20")]


def test_a_table_that_is_too_wide_is_folded() -> None:
    assert text_table(ROWS, "<>", width=22) == [
        *("name       n     p50", "torch  1,796  557 us", "onnx   4,197  238 us"),
        "",
        *("name   speed-up", "torch         1", "onnx       2.20"),
    ]
    assert text_table(ROWS, "<>", "  ", width=31) != text_table(ROWS, "<>", "  ")
    assert text_table(ROWS, "<>", "  ", width=32) == text_table(ROWS, "<>", "  ")


@pytest.mark.parametrize("width", [1, 10, 20, 30, 40, 80, None])
def test_no_width_cuts_a_cell(width: int | None) -> None:
    for lines in (text_table(ROWS, width=width), prose_table(ROWS[0], ROWS[1:], width=width)):
        assert all(cell in "\n".join(lines) for row in ROWS[1:] for cell in row)


def test_sentences_are_wrapped_beside_below_or_in_stacks() -> None:
    header, rows = ("name", "n", "meaning"), [("size", "12", "the number of all units of one layer")]
    assert prose_table(header, rows) == ["name  n   meaning", "size  12  the number of all units of one layer"]
    assert prose_table(header, rows, width=36) == [
        *("name  n   meaning", "size  12  the number of all units of", "          one layer"),
    ]
    assert prose_table(header, rows, width=20) == [
        *("name  n", "size  12", "    the number of", "    all units of one", "    layer"),
    ]
    assert prose_table(header, rows, width=7)[:4] == ["size", "    n: 12", "    the", "    number"]

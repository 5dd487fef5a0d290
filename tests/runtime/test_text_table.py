"""Tables of plain text by hand."""

from lmtool.runtime.io.text_table import text_table


def test_columns_are_aligned() -> None:
    rows = [("name", "n", "more"), ("a", "1,000", "x"), ("long name", "2", "")]
    assert text_table(rows, "<>", "  ") == [
        "  name           n  more",
        "  a          1,000     x",
        "  long name      2",
    ]
    assert text_table(rows) == ["name       n      more", "a          1,000  x", "long name  2"]

"""The report of `lmtool bench` in Chromium, at the widths of a phone and of a screen."""

from typing import Any

import pytest
from lmtool.bench.report.html import render_report
from support.models.reports import make_parity_report
from support.models.results import make_results

TIMES = [[1.234e-3, 1.5e-3] * 50, [1.3e-3, 1.8e-3] * 50]
TABLES = """
() => [...document.querySelectorAll("table")].map((table) => {
  const box = table.parentElement;
  const edges = [box, ...table.querySelectorAll("th[scope=row]")].map((element) => element.getBoundingClientRect());
  box.scrollLeft = 1e6;
  const first = table.querySelector("th[scope=row]").getBoundingClientRect();
  return {
    wide: box.scrollWidth > box.clientWidth,
    moved: box.scrollLeft,
    right: edges[0].right,
    shadows: getComputedStyle(box).backgroundImage.split("linear-gradient").length - 1,
    sticky: Math.abs(first.left - edges[0].left) < 1,
  };
})
"""


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_wide_tables_scroll_inside_the_page_and_show_that_there_is_more(chromium: Any, width: int) -> None:
    parity = make_parity_report(1e-6).to_json()
    results = make_results(
        {"torch": TIMES, "onnxruntime-node": TIMES, "onnx int8-latency on tensorrt": TIMES},
        parity={"onnx int8-latency on tensorrt": parity},
        placement={"onnxruntime-node": {"cpu": dict.fromkeys(("LSTM", "Gemm", "Gather", "Transpose", "Squeeze"), 2)}},
    )
    page = chromium.new_page(viewport={"width": width, "height": 800})
    try:
        page.set_content(render_report(results))
        assert page.evaluate("document.documentElement.scrollWidth") == width
        tables = page.evaluate(TABLES)
    finally:
        page.close()
    assert len(tables) >= 4
    assert all(table["right"] <= width and table["sticky"] and table["shadows"] == 4 for table in tables)
    assert all((table["moved"] > 0) == table["wide"] for table in tables)
    assert any(table["wide"] for table in tables) or width > 1000

"""Files of the results: figures as JSON, a report as HTML, a table as text, a chart as PNG."""

from pathlib import Path

from ...runtime.io.files import make_folder, write_atomically
from ..regression.comparison import Comparison
from ..results import Results
from .html import write_report
from .mlperf import format_mlperf
from .png import draw_chart
from .text import format_table

NAME = "bench"
FAILED_NAME = "bench.failed"
"""Name of results that fail a regression gate, so that they do not replace those they are compared with."""


def save_results(
    results: Results, folder: Path, comparison: Comparison | None = None, name: str = NAME
) -> dict[str, Path]:
    """Write `NAME.json`, `NAME.html`, `NAME.txt` and `NAME.png` into `folder`; returns kind -> file.

    There is no chart if nothing was timed.

    Args:
        results: The results.
        folder: Where to; it is made if it is missing.
        comparison: The comparison with earlier results, for report and table.
        name: Name of the files.

    Raises:
        StorageError: A file cannot be written.
    """
    make_folder(folder)
    files = {"timings": folder / f"{name}.json", "report": folder / f"{name}.html", "table": folder / f"{name}.txt"}
    results.write(files["timings"])
    write_report(results, files["report"], comparison)
    mlperf = [] if results.mlperf is None else [format_mlperf(results.mlperf)]
    parts = [format_table(results), *mlperf, *([] if comparison is None else [comparison.format()])]
    write_atomically(files["table"], "\n\n".join([*filter(None, parts), ""]).encode(errors="replace"))
    if results.timings:
        files["chart"] = folder / f"{name}.png"
        draw_chart(results, files["chart"])
    return files

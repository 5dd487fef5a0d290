"""Where results go: timings as JSON, a report to read, and a picture."""

from pathlib import Path

from ...runtime.io.files import make_folder
from ..comparison import Comparison
from ..results import Results
from .html import write_report
from .png import draw_chart

NAME = "bench"
FAILED_NAME = "bench.failed"
"""What results are called that failed a gate and must not replace those that they were compared with."""


def save_results(
    results: Results, folder: Path, comparison: Comparison | None = None, name: str = NAME
) -> dict[str, Path]:
    """Write `NAME.json`, `NAME.html` and `NAME.png` into `folder`; returns what is where.

    Where nothing passed its verification there is nothing to draw, and no picture.

    Args:
        results: What was measured.
        folder: Where to; it is made if it is missing.
        comparison: The same beside earlier results, for the report.
        name: What the files are called.

    Raises:
        StorageError: They cannot be written.
    """
    make_folder(folder)
    files = {"timings": folder / f"{name}.json", "report": folder / f"{name}.html"}
    results.write(files["timings"])
    write_report(results, files["report"], comparison)
    if results.timings:
        files["chart"] = folder / f"{name}.png"
        draw_chart(results, files["chart"])
    return files

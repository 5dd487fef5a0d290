"""Where results go: timings as JSON, and their picture."""

from pathlib import Path

from ..runtime.files import make_folder
from .chart import draw_chart
from .results import Results

JSON_NAME = "bench.json"


def save_results(results: Results, folder: Path) -> dict[str, Path]:
    """Write `bench.json` and `bench.png` into `folder`, which is made if it is missing; returns what is where.

    Where nothing passed its verification there is nothing to draw.

    Raises:
        StorageError: They cannot be written.
    """
    make_folder(folder)
    files = {"timings": folder / JSON_NAME}
    results.write(files["timings"])
    if results.timings:
        files["chart"] = folder / "bench.png"
        draw_chart(results, files["chart"])
    return files

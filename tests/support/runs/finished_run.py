"""A finished run folder with every kind of file, from which hostile and damaged files are made."""

import json
import shutil
from pathlib import Path

from lmtool.export import export_run
from lmtool.model import Run
from lmtool.runtime import CacheOptions, Predictor

_KEPT_SETS = (0, 1, 10, 11)
"""Test vector sets: two calls and two steps of the closed loop."""


def write_finished_run(folder: Path, run: Run) -> Path:
    """Copy a run, and add an artifact, test vectors and the states of two streams, one with a cache."""
    shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("*.onnx", "*.png", "parity*", ".lock"))
    export_run(Run(folder), test_vectors=True)
    index = json.loads((folder / "test_vectors.json").read_text())
    index["sets"] = [index["sets"][number] for number in _KEPT_SETS]
    (folder / "test_vectors.json").write_text(json.dumps(index))
    kept = {entry["folder"] for entry in index["sets"]}
    for path in folder.glob("test_data_set_*"):
        if path.name not in kept:
            shutil.rmtree(path)
    predictor = Predictor.load(folder / "model.onnx")
    for name, cache in (("stream.state", CacheOptions(size=5)), ("plain.state", None)):
        stream = predictor.stream(cache=cache)
        stream.feed("the cat saw a dog")
        (folder / name).write_bytes(stream.state.to_bytes())
    return folder

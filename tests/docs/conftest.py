"""A folder as after `make demo`, with a small network in place of the demo's."""

import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from lmtool.export import export_run
from lmtool.model import Run, TrainOptions, run_training
from support.runs.reporters import RecordingReporter

_SMALL = {"embedding_size": "24", "layer_sizes": "24", "vocabulary_size": "600", "epochs": "1", "precision": "fp32"}


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder, made once by the first process of pytest that needs it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "documented"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            made = folder.with_name("being-documented")
            run = made / "runs" / "demo"
            run_training(TrainOptions(data="pydocs", run=run, settings=_SMALL, threads=1), RecordingReporter())
            for precision in ("int8", "fp32"):
                export_run(Run(run), precision)
            made.rename(folder)
    return folder


@pytest.fixture
def place(tmp_path: Path, demo_folder: Path) -> Path:
    """A copy of the folder for one page."""
    folder = tmp_path / "page"
    shutil.copytree(demo_folder, folder)
    return folder

"""A folder as after `make demo`, with a small network in place of the demo's."""

import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from lmtool.export import export_run
from lmtool.model import Run, TrainOptions, run_training
from lmtool.model.data.texts import read_splits
from support.corpora import whole
from support.runs.reporters import RecordingReporter

_SMALL = {"embedding_size": "24", "layer_sizes": "24", "vocabulary_size": "600", "epochs": "2", "precision": "fp32"}
_LINES = {"train": 3000, "valid": 200, "test": 200}


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder, made once by the first process of pytest that needs it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "documented"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            made = folder.with_name("being-documented")
            run, text = made / "runs" / "demo", folder.with_name("documented-text")
            _write_text(text)
            run_training(TrainOptions(data=str(text), run=run, settings=_SMALL, threads=1), RecordingReporter())
            for precision in ("int8", "fp32"):
                export_run(Run(run), precision)
            made.rename(folder)
    return folder


def _write_text(folder: Path) -> None:
    """Part of the demo's text: the whole takes a minute."""
    folder.mkdir()
    for split, text in whole(read_splits("pydocs")).items():
        (folder / f"{split}.txt").write_text("".join(text.splitlines(keepends=True)[: _LINES[split]]))


@pytest.fixture
def place(tmp_path: Path, demo_folder: Path) -> Path:
    """A copy of the folder for one page."""
    folder = tmp_path / "page"
    shutil.copytree(demo_folder, folder)
    return folder

"""A network with unequal sizes everywhere, trained once on a small corpus and exported; shared by all tests."""

from pathlib import Path

import pytest
import torch
from corpora import write_corpus
from lmtool.export import export_run
from lmtool.model import Run, TrainOptions, run_training
from lmtool.runtime import Predictor
from tiny import SETTINGS, Silent


@pytest.fixture
def reporter() -> Silent:
    return Silent()


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path) -> Run:
    """A finished run, exported in every precision."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    options = TrainOptions(preset="ptb-200", data=str(corpus_folder), run=path, settings=SETTINGS, threads=1)
    run_training(options, Silent())
    for precision in ("fp32", "int8"):
        export_run(Run(path), precision)
    return Run(path)


@pytest.fixture(scope="session")
def artifact_path(run: Run) -> Path:
    return run.artifact("fp32")


@pytest.fixture(scope="session")
def predictor(artifact_path: Path) -> Predictor:
    return Predictor.load(artifact_path)


@pytest.fixture(scope="session")
def int8_predictor(run: Run) -> Predictor:
    return Predictor.load(run.artifact("int8"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Two threads that spin for each other are many times slower than one where the machine is busy."""
    torch.set_num_threads(1)

"""A network with unequal sizes everywhere, trained once on a small corpus and exported; shared by all tests."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from lmtool.export import export_run
from lmtool.model import Run, TrainOptions, run_training
from lmtool.runtime import PoolOptions, Predictor, StreamPool
from support import surroundings
from support.corpora import write_corpus
from support.models.older_files import older_file
from support.pools import Gate
from support.runs.reporters import RecordingReporter
from support.runs.settings import SETTINGS
from support.scale import FULL

surroundings.reset()
# No deadlines: a busy machine is slow at times.
hypothesis.settings.register_profile("lmtool", deadline=None)
hypothesis.settings.load_profile("lmtool")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under `make torture` select its folder and the marked tests; otherwise skip those marked `torture`."""
    if FULL:
        chosen = [item for item in items if _is_torture(item)]
        config.hook.pytest_deselected(items=set(items) - set(chosen))
        items[:] = chosen
        return
    for item in items:
        if item.get_closest_marker("torture"):
            item.add_marker(pytest.mark.skip(reason="takes long, and smaller tests cover the same; run: make torture"))


def _is_torture(item: pytest.Item) -> bool:
    return "torture" in item.path.parts or any(map(item.get_closest_marker, ("torture", "scaled")))


@pytest.fixture
def reporter() -> RecordingReporter:
    return RecordingReporter()


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path) -> Run:
    """A finished run, exported in fp32 and int8."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    options = TrainOptions(preset="ptb-200", data=str(corpus_folder), run=path, settings=SETTINGS, threads=1)
    run_training(options, RecordingReporter())
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


@pytest.fixture(scope="session")
def dynamic_int8_path(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as an earlier version exported it, which is not batch-invariant."""
    return older_file(run.artifact("fp32"), "int8", tmp_path_factory.mktemp("older") / "model.int8.onnx")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """On a busy machine two threads that wait for each other are many times slower than one."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _all_numbers() -> None:
    """Undo the setting of a training in this process, which flushes denormal numbers to zero."""
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """A folder with one finished run, as after `train` and two exports."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(run.path, folder / "runs" / "tiny")
    os.utime(folder / "runs" / "tiny" / "model.onnx")
    return folder


@pytest.fixture
def own_predictor(artifact_path: Path) -> Predictor:
    """A predictor that a test may tamper with."""
    return Predictor.load(artifact_path)


@pytest.fixture
def pool(predictor: Predictor) -> Iterator[StreamPool]:
    with StreamPool(predictor, PoolOptions(max_streams=50)) as pool:
        yield pool


@pytest.fixture
def held(own_predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[StreamPool, Gate]]:
    """A small pool whose calls wait at a gate."""
    pool = StreamPool(own_predictor, PoolOptions(max_streams=20, max_waiting=4, max_batch=8))
    gate = Gate(own_predictor, monkeypatch)
    yield pool, gate
    gate.open()
    pool.close()

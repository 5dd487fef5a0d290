"""Marks the tests of this folder, which skip if a program that they need is missing; fixtures for the browser."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lmtool.model import Run
from support.models.networks import artifact_of, network_of
from support.models.subwords import bpe_artifact
from support.web.browser import ARGUMENTS, Visit, require_browser, screenshot, served

_HERE = Path(__file__).parent
WORDS = ["<eos>", "<unk>", "the", "(", ")", ".", "foo", "for", "os.path", "don't", "don"]
CHARACTERS = ["\n", "\ufffd", "a", "b", " ", "'", "\t"]
MARKS = ["<eos>", "<unk>", "foo", "(", ")", "."]
UNTRAINED = {"words": ("words", WORDS), "marks": ("words", MARKS), "characters": ("characters", CHARACTERS)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the marker `portability` to the tests of this folder."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.portability)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    require_browser()
    with screenshot.browser(*ARGUMENTS) as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """The page with models: the trained one in fp32 and int8, and untrained ones of other tokenization rules."""
    require_browser()
    place: Path = screenshot.copy_page(tmp_path_factory.mktemp("site"), run.artifact("fp32"))
    shutil.copy(run.artifact("int8"), place / "int8.onnx")
    for name, (rule, tokens) in UNTRAINED.items():
        network = network_of((7, 3), vocabulary=len(tokens))
        (place / f"{name}.onnx").write_bytes(artifact_of(network, tokens, rule))
    (place / "bpe.onnx").write_bytes(bpe_artifact())
    return place


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Any]:
    yield from served(folder)


@pytest.fixture
def visits(chromium: Any, site: Any) -> Iterator[Callable[..., Visit]]:
    """Opens pages; afterwards checks that they logged no error and sent no request to another host."""
    opened: list[Visit] = []

    def visit(**settings: Any) -> Visit:
        opened.append(Visit(chromium, site.url, **settings))
        return opened[-1]

    yield visit
    for each in opened:
        each.close()
    assert [error for each in opened for error in each.errors] == []
    requested = [url for each in opened for url in each.requests]
    assert requested
    assert [url for url in requested if not url.startswith((site.url, "blob:"))] == []


@pytest.fixture
def visit(visits: Callable[..., Visit]) -> Visit:
    return visits().open()

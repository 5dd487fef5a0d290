"""Every test in this folder needs what a machine may lack, and skips where that is missing.

The fixtures are the browser example's: the page, models beside it, a server, a browser.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lmtool.export import export_run
from lmtool.model import Run
from support.models.networks import artifact_of, network_of
from support.web.browser import ARGUMENTS, Visit, require_browser, screenshot, served

_HERE = Path(__file__).parent
WORDS = ["<eos>", "<unk>", "the", "(", ")", ".", "foo", "for", "os.path", "don't", "don"]
CHARACTERS = ["\n", "\ufffd", "a", "b", " ", "'", "\t"]
MARKS = ["<eos>", "<unk>", "foo", "(", ")", "."]
UNTRAINED = {"words": ("words", WORDS), "marks": ("words", MARKS), "characters": ("characters", CHARACTERS)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them, so that `pytest -m portability` finds them wherever they stand."""
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
    """The page with the trained model beside it, and others: in other precisions, and of other rules."""
    require_browser()
    place: Path = screenshot.copy_page(tmp_path_factory.mktemp("site"), run.artifact("fp32"))
    copied = Run(Path(shutil.copytree(run.path, tmp_path_factory.mktemp("runs") / "run")))
    export_run(copied, "w8")
    for precision in ("int8", "w8"):
        shutil.copy(copied.artifact(precision), place / f"{precision}.onnx")
    for name, (rule, tokens) in UNTRAINED.items():
        network = network_of((7, 3), vocabulary=len(tokens))
        (place / f"{name}.onnx").write_bytes(artifact_of(network, tokens, rule))
    return place


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Any]:
    yield from served(folder)


@pytest.fixture
def visits(chromium: Any, site: Any) -> Iterator[Callable[..., Visit]]:
    """Opens the page; at the end nothing was complained of, and no other host was asked for anything."""
    opened: list[Visit] = []

    def visit(**settings: Any) -> Visit:
        opened.append(Visit(chromium, site.url, **settings))
        return opened[-1]

    yield visit
    for each in opened:
        each.close()
    assert [complaint for each in opened for complaint in each.complaints] == []
    asked = [url for each in opened for url in each.requests]
    assert asked
    assert [url for url in asked if not url.startswith((site.url, "blob:"))] == []


@pytest.fixture
def visit(visits: Callable[..., Visit]) -> Visit:
    return visits().open()
